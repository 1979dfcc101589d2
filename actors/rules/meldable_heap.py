"""A heap that can swallow another one, and give up any of its nodes, in O(log n): a leftist tree.

Law: the largest key is on top, a node is its own entry, and nothing dead stays inside, so that there is no garbage to
collect and no tick on which a long clean-up falls due. A root's `up` is None.
"""

from __future__ import annotations

from typing import Any, TypeVar


class Node:
    """An entry of one heap. `key` may change only while the node is in none."""

    __slots__ = ("key", "left", "rank", "right", "up")

    def __init__(self, key: int) -> None:
        self.key = key
        self.left: Any = None
        self.right: Any = None
        self.up: Any = None
        self.rank = 1
        """Length of the right spine; never longer than log2 of the size, which bounds everything below."""


N = TypeVar("N", bound=Node)


def meld(a: N | None, b: N | None) -> N | None:
    """Join two heaps, given by their roots, and return the root of the whole. O(log n)."""
    if a is None:
        return b
    if b is None:
        return a
    if a.key < b.key:
        a, b = b, a
    root = a
    at: Any = a
    rest: Any = b
    while (right := at.right) is not None:
        if right.key < rest.key:
            at.right = rest
            rest.up = at
            at, rest = rest, right
        else:
            at = right
    at.right = rest
    rest.up = at
    while at is not None:
        left, right = at.left, at.right
        if left is None:
            at.left, at.right, at.rank = right, None, 1
        elif left.rank < right.rank:
            at.left, at.right, at.rank = right, left, left.rank + 1
        else:
            at.rank = right.rank + 1
        at = at.up
    return root


def without(root: N | None, node: Node) -> N | None:
    """Take `node` out of the heap under `root` and return the new root. O(log n)."""
    left, right, up = node.left, node.right, node.up
    if left is not None:
        left.up = None
    if right is not None:
        right.up = None
    rest: Any = meld(left, right)
    node.left = node.right = node.up = None
    node.rank = 1
    if up is None:
        return rest  # type: ignore[no-any-return]
    if rest is not None:
        rest.up = up
    if up.left is node:
        up.left = rest
    else:
        up.right = rest
    # Ranks above change only along a right spine, and each step adds one to the rank: O(log n) again.
    while up is not None:
        left, right = up.left, up.right
        if (left.rank if left is not None else 0) < (right.rank if right is not None else 0):
            up.left, up.right = left, right = right, left
        rank = 1 if right is None else right.rank + 1
        if rank == up.rank:
            break
        up.rank = rank
        up = up.up
    return root
