"""A scripted stand-in for a strong model: it rewrites and ranks what the shipped prompts show it."""

import re

SHOWN = re.compile(r"^\[(\d+)\]\n(.*?)(?=\n\n\[\d+\]\n|\n\nReply with )", re.DOTALL | re.MULTILINE)


def strong_model(seen, _):
    """Adds ' more' to the text in a rewriting; ranks by how many there are, 1 to 6."""
    if "Reply with" in seen.prompt:
        return ranking(seen.prompt)
    return f"<rewritten>{shown_text(seen.prompt)} more</rewritten>"


def shown_text(prompt):
    """The instruction to rewrite, or the response."""
    part = "The response:\n" if "The response:\n" in prompt else "The instruction:\n"
    return prompt.split(part)[1].split("\n\nWrite the new ")[0]


def ranking(prompt):
    """The reply to a ranking request."""
    found = SHOWN.findall(prompt)
    return "\n".join(f"[{number}] Score: {min(6, 1 + text.count(' more'))}" for number, text in found)
