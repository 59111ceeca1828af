"""Stories about the shapes that `ordu-tiny` draws, from a grammar that the test of the trained model reads too."""

import json
import random
import re
from pathlib import Path

MODEL = Path(__file__).resolve().parents[2] / "crates" / "ordu-engine" / "models" / "ordu-tiny-text"
GRAMMAR = json.loads((MODEL / "grammar.json").read_text())
WORDS = GRAMMAR["words"]
SLOT = re.compile(r"\{(\w+)\}")


def other_than(chance, kind, taken):
    return chance.choice([word for word in WORDS[kind] if word != taken])


def story(chance):
    """One story. Colour and shape of hero and friend stay the same from the first sentence to the last."""
    hero = {"colour": chance.choice(WORDS["colour"]), "shape": chance.choice(WORDS["shape"])}
    hero["other_colour"] = other_than(chance, "colour", hero["colour"])
    hero["other_shape"] = chance.choice(WORDS["shape"])

    def fill(template):
        def word(match):
            name = match.group(1)
            if name == "subject":
                return fill(chance.choice(GRAMMAR["subject"]))
            return hero.get(name) or chance.choice(WORDS[name])

        return SLOT.sub(word, template)

    return " ".join(fill(chance.choice(GRAMMAR[part])) for part in chance.choice(GRAMMAR["story"]))


def gibberish(chance):
    """Words that nobody knows, so that letters are not strangers."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(chance.choices(letters, k=chance.randint(1, 8))) for _ in range(chance.randint(1, 4))]
    return " ".join(words).capitalize() + chance.choice([".", "!", "?", ",", ""])


def text(chance):
    """What one document of the training set says: a story, now and then behind something else."""
    if chance.random() < 0.05:
        return f"{gibberish(chance)} {story(chance)}"
    return story(chance)


def vocabulary():
    """Texts and kinds of the tokens: controls, bytes, characters, words and their beginnings, longest first."""
    yield from (("<unk>", "UNKNOWN"), ("<s>", "CONTROL"), ("</s>", "CONTROL"))
    for byte in range(256):
        yield f"<0x{byte:02X}>", "BYTE"
    for letter in "▁" + "".join(chr(code) for code in range(33, 127)) + "\n":
        yield letter, "NORMAL"
    known = set()
    parts = [list(words) for words in WORDS.values()]
    parts += [GRAMMAR[part] for part in ("subject", "opening", "middle", "meeting", "answer", "closing")]
    for template in (template for part in parts for template in part):
        known.update(re.findall(r"[A-Za-z]+", SLOT.sub(" ", template)))
    # A word is found by merging its beginnings, so these are tokens too.
    beginnings = {f"▁{word[:end]}" for word in known for end in range(1, len(word) + 1)}
    for beginning in sorted(beginnings, key=lambda beginning: (-len(beginning), beginning)):
        yield beginning, "NORMAL"


class Tokenizer:
    """What SentencePiece makes of these tokens: the longest known beginning of a word, then single characters, then bytes."""

    def __init__(self):
        self.tokens = list(vocabulary())
        self.ids = {text: number for number, (text, _) in enumerate(self.tokens)}

    def encode(self, text):
        ids = []
        for word in re.findall("▁+[^▁]*|^[^▁]+", "▁" + text.replace(" ", "▁")):
            end = next((end for end in range(len(word), 1, -1) if word[:end] in self.ids), 1)
            ids.append(self.ids[word[:end]])
            for letter in word[end:]:
                known = self.ids.get(letter)
                ids += [known] if known is not None else [self.ids[f"<0x{byte:02X}>"] for byte in letter.encode()]
        return ids

    def decode(self, ids):
        return "".join(self.tokens[number][0] for number in ids).replace("▁", " ")


if __name__ == "__main__":
    chance = random.Random(1)
    tokenizer = Tokenizer()
    lengths = []
    for number in range(2000):
        line = text(chance)
        if number < 8:
            print(line)
        lengths.append(len(tokenizer.encode(line)))
        assert tokenizer.decode(tokenizer.encode(line)) == " " + line
    print(f"{len(tokenizer.tokens)} tokens; stories of {sum(lengths) / len(lengths):.0f} tokens, {max(lengths)} at most")
