# A bare repository whose packs and loose objects are symbolic links into a mount: git finds it whole, clones and searches it.
#   repository.sh make DIR       makes DIR/bare.git with two packs and loose objects, and prints the path of each object file
#   repository.sh link DIR TREE  puts a link to TREE/<sha256> in place of each of them
#   repository.sh check DIR      whole? and as it was when made?
set -eu
dir=$2
export HOME=$dir GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
export GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'
bare=$dir/bare.git

commit() {
    seq "$1" "$2" >"$dir/tree/numbers"
    mkdir -p "$dir/tree/d$1"
    seq "$2" >"$dir/tree/d$1/more"
    # Does not compress: its pack is larger than what is packed with others.
    head -c "$3" /dev/urandom >"$dir/tree/d$1/random"
    git -C "$dir/tree" add -A
    git -C "$dir/tree" commit -qm "numbers $1 to $2"
}

objects() { find "$bare/objects" -type f -path '*/??/*' -o -type f -path '*/pack/pack-*'; }

case $1 in
make)
    git init -q -b main "$dir/tree"
    git clone -q --bare "$dir/tree" "$bare" 2>/dev/null
    for round in 1 2; do
        for step in 1 2 3 4 5; do commit "$round$step" $((1000 * round * step)) $((100000 * step)); done
        git -C "$dir/tree" push -q "$bare" main
        git -C "$bare" repack -q -d
    done
    commit 9 5000 3000
    git -C "$dir/tree" -c receive.unpackLimit=1000 push -q "$bare" main
    git -C "$dir/tree" rev-parse main >"$dir/head"
    objects
    ;;
link)
    objects | while read -r file; do
        ln -sf "$3/$(sha256sum "$file" | cut -d' ' -f1)" "$file"
    done
    test -z "$(objects)"
    ;;
check)
    git -C "$bare" fsck --full --strict --no-dangling
    git -C "$bare" verify-pack "$bare"/objects/pack/*.idx
    git clone -q --no-local --bare "$bare" "$dir/clone$$.git"
    test "$(git -C "$dir/clone$$.git" rev-parse main)" = "$(cat "$dir/head")"
    git -C "$bare" log --stat --format=%H main | wc -l
    git -C "$bare" grep -c 4999 main -- numbers >/dev/null
    git -C "$bare" archive main | tar -xO d9/random | cmp - "$dir/tree/d9/random"
    ;;
esac
