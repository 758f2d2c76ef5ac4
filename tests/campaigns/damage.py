"""Damage to files: flipped bits, cuts, splices, wrong lengths; and text that is built to hurt."""

import json
import random

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, 10**9)
_WORDS = (
    "${oc.env:HOME}", "\\u0024{oc.env:HOME}", "\\x24{oc.env:HOME}", "!!python/object/apply:os.system [touch CANARY]",
    "../../../tmp/x", "\x00", "\x1b[31m", "\u202e", "NaN", "-Infinity", "1e999", "9" * 5000, "0x" + "f" * 5000,
    "1" + ":59" * 3000, "&a [*a]", "*nothing", "? [", "<<: [", "2020-99-99", "!!binary '%%%'", "null", "[]", "{}",
    "true", "-1", "1000000000", "x" * 200_000, "[" * 3000, "{a: " * 3000, "- " * 3000, "\ufeff", "\ud7ff",
    "%YAML 9.9\n---", "|2\n", "'", '"',
)  # fmt: skip
_KEYS = (
    "layers",
    "hidden_dim",
    "z_dim",
    "size",
    "steps",
    "scene",
    "stages",
    "name",
    "recipe",
    "mean",
    "cov",
    "channels",
)


def mutated(data: bytes, dice: random.Random) -> bytes:
    """Bytes with one to four kinds of damage, most of it near the beginning, where headers are."""
    out = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4))):
        n = max(len(out), 1)
        at = dice.randrange(min(n, 512)) if dice.random() < 0.5 else dice.randrange(n)
        match dice.randrange(7):
            case 0:
                for _ in range(dice.choice((1, 1, 8))):
                    at = dice.randrange(n)
                    out[at : at + 1] = bytes([(out[at] if out else 0) ^ (1 << dice.randrange(8))])
            case 1:
                del out[at:]
            case 2:
                width = dice.choice((1, 2, 4, 8))
                number = dice.choice(_NUMBERS) % 2 ** (8 * width)
                out[at : at + width] = number.to_bytes(width, dice.choice(("little", "big")))
            case 3:
                start = dice.randrange(n)
                out[at:at] = out[start : start + dice.randrange(1, 256)] * dice.choice((1, 1, 50))
            case 4:
                del out[at : at + dice.randrange(1, 64)]
            case 5:
                out[at:at] = dice.choice(_WORDS)[:2000].encode("utf-8", "replace")
            case 6:
                out += bytes(dice.randrange(256) for _ in range(dice.randrange(64)))
    return bytes(out)


def rewritten(text: str, dice: random.Random) -> str:
    """Text in which words, numbers and lines stand for others."""
    lines = text.split("\n")
    for _ in range(dice.choice((1, 1, 2, 5))):
        at = dice.randrange(len(lines))
        word = dice.choice(_WORDS)
        match dice.randrange(4):
            case 0:
                key, sign, _ = lines[at].partition(":")
                lines[at] = f"{key}{sign or ':'} {word}"
            case 1:
                lines.insert(at, f"{dice.choice(_KEYS)}: {word}")
            case 2:
                lines[at] = lines[at].replace(dice.choice(lines[at] or " "), word[:500], 1)
            case 3:
                lines.insert(at, word)
    return "\n".join(lines)


def retold(values: object, dice: random.Random) -> object:
    """Plain values with some replaced by what does not belong there."""
    odd = [
        None, True, -1, 0, 10**9, 2**63, 10**400, float("nan"), float("inf"), 1e308, "", "x" * 1000, "${oc.env:HOME}",
        [], {}, [[[[[[]]]]]], ["a"] * 20_000, {"a": {"b": 1}}, "../../x", "hf:a/b", "file:/etc/passwd",
    ]  # fmt: skip
    text = json.dumps(values)
    again = json.loads(text)
    places: list[tuple[object, object]] = []
    rest = [again]
    while rest:
        value = rest.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
        places += [(value, key) for key in keys]
        rest += [value[key] for key in keys]  # type: ignore[index]
    for _ in range(dice.choice((1, 1, 3))):
        if places:
            holder, key = dice.choice(places)
            if isinstance(holder, dict) and dice.random() < 0.2:
                holder.pop(key, None)
            elif isinstance(holder, dict) or (isinstance(key, int) and isinstance(holder, list) and key < len(holder)):
                holder[key] = dice.choice(odd)  # type: ignore[index]
    if isinstance(again, dict) and dice.random() < 0.2:
        again[dice.choice(_KEYS)] = dice.choice(odd)
    return again
