"""Lists TREE until the file STOP is there, at least ROUNDS times: every name in the file STAY comes once, no name comes twice,
and none that the file COME_AND_GO does not have either. Prints how often it listed."""
import os
import sys

tree, stay, come_and_go, rounds, stop = sys.argv[1:6]
stay = set(open(stay).read().split())
may_be = stay | set(open(come_and_go).read().split())
count = 0
while count < int(rounds) or not os.path.exists(stop):
    listed = [entry.name for entry in os.scandir(tree)]
    names = set(listed)
    assert len(names) == len(listed), f"round {count}: {len(listed) - len(names)} names come twice"
    assert not stay - names, f"round {count}: {len(stay - names)} of {len(stay)} names are missing"
    assert not names - may_be, f"round {count}: {len(names - may_be)} names are of nothing that was ever stored"
    count += 1
print(count)
