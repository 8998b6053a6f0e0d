"""What the parts of a leaderboard are folded under, what they are called, and the notes below them."""

from __future__ import annotations

from parbench.reports.consistency import CONSISTENCY_NOTE
from parbench.reports.detectable import DETECTABLE_NOTE
from parbench.reports.extra_tables import OTHER_METRICS_NOTE, RETENTION_NOTE, SUBSETS_NOTE
from parbench.reports.leaderboard_render import COST_NOTE, WINS_NOTE
from parbench.reports.settings_table import SETTINGS_NOTE

# What the parts of a leaderboard are folded under; others have a heading of their own. Those of one task are folded
# together.
HEADINGS = {
    "notes": "How to read the scores",
    "over_tasks": "Over all tasks",
    "over_tasks_notes": "Over all tasks",
    "wins": "Wins, ties and losses",
    "costs": "Parameters and cost",
    "settings": "Hyper-parameters",
    "noise": "Noise floor",
    "noise_notes": "Noise floor",
    "detectable": "What each comparison could have seen",
    "consistency": "Predictions that differ between seeds",
    "retention": "What is forgotten of general text",
    "facts": "Data, revisions and suites",
}
# What the parts of a leaderboard are called; others are called by their name.
PART_CAPTIONS = {
    "costs": "Parameters and cost",
    "settings": "Hyper-parameters",
    "over_tasks": "Over all tasks",
    "wins": "Wins, ties and losses",
    "noise": "Noise floor: runs of the same seed, repeated",
    "detectable": "Smallest difference that a pair could have shown",
    "consistency": "Predictions that differ between seeds, in percent",
    "retention": "What is forgotten of general text",
}
AFTER = {
    "costs": COST_NOTE,
    "settings": SETTINGS_NOTE,
    "wins": WINS_NOTE,
    "detectable": DETECTABLE_NOTE,
    "consistency": CONSISTENCY_NOTE,
    "retention": RETENTION_NOTE,
    "subsets": SUBSETS_NOTE,
    "other_metrics": OTHER_METRICS_NOTE,
}
