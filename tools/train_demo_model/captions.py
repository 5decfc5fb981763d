"""The caption language as token ids: one id a word, `</s>` at the end, zeros behind it."""

from scenes import COLORS, SHAPES

LENGTH = 16
WORDS = (
    ["<pad>", "</s>", "<unk>", "a", "small", "big", *COLORS, *SHAPES]
    + ["moving", "left", "right", "bouncing", "circling", "rising", "falling"]
    + ["over", "meadow", "desert", "ocean", "night", "city"]
)
IDS = {word: index for index, word in enumerate(WORDS)}


def encode(text):
    """Token ids and mask (1 for a token, 0 for padding), `LENGTH` each."""
    ids = [IDS.get(word, IDS["<unk>"]) for word in text.lower().split()] + [IDS["</s>"]]
    ids = ids[:LENGTH]
    padding = [0] * (LENGTH - len(ids))
    return ids + padding, [1] * len(ids) + padding


def tokenizer_json():
    """The same as a file of the `tokenizers` library."""
    special = lambda word: {
        "id": IDS[word], "content": word, "special": True, "normalized": False,
        "single_word": False, "lstrip": False, "rstrip": False,
    }
    end = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    sequence = lambda name: {"Sequence": {"id": name, "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special(word) for word in WORDS[:3]],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [sequence("A"), end],
            "pair": [sequence("A"), end, sequence("B"), end],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [IDS["</s>"]], "tokens": ["</s>"]}},
        },
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": IDS, "unk_token": "<unk>"},
    }
