"""Counts the entries of the directories in the arguments, by their names and with what the kernel learns of each. Prints a
number for each; ends with 0 if both ways agree and no name comes twice."""
import os
import sys

for directory in sys.argv[1:]:
    plain = os.listdir(directory)
    with os.scandir(directory) as entries:
        seen = sum(entry.is_file(follow_symlinks=False) for entry in entries)
    assert len(set(plain)) == len(plain) == seen, f"{len(plain)} names, {len(set(plain))} different, {seen} files"
    print(seen)
