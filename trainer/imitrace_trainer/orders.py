"""Hold the orders that texts of users and tools must not give: curation quarantines them, the evaluator scores them."""

from typing import Final

HIDDEN: Final = "hidden letters"

ORDERS: Final[dict[str, str]] = {
    "ignore": r"(ignore|disregard|forget|override)\s+(all\s+|any\s+|the\s+|your\s+|every\s+)*"
    r"(previous|prior|above|earlier|preceding|system|original)\b[^.]{0,30}?"
    r"(instruction|prompt|rule|direction|guideline|polic)",
    "new orders": r"\b(new|updated|real|actual)\s+(system\s+)?(instructions?|orders?)\s*(:|are\b)",
    "you are now": r"\byou\s+are\s+(now|no\s+longer)\s+(a|an|in|the|bound|restricted|dan)\b",
    "marks of a template": r"<\|(im_start|im_end|system|endoftext)\|>|\[/?inst\]|<</?sys>>",
    "reveal the prompt": r"\b(reveal|print|show|repeat|leak|output)\b[^.]{0,30}\b(system|hidden|initial)\s+"
    r"(prompt|instructions?|message)",
    "keep from the user": r"\b(do\s+not|don'?t|never)\s+(tell|inform|mention|reveal|alert)\b[^.]{0,20}"
    r"\b(user|customer|anyone)\b",
    HIDDEN: "[\U000e0020-\U000e007f]|[\u200b\u200c\u2060\ufeff]{3,}|[\u202a-\u202e\u2066-\u2069]{2,}",
}
"""Regular expressions by name, over text in lower case; both Python's engine and Polars' take them."""
