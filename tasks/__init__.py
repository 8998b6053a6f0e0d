"""The tasks: data, preprocessing, model head and metrics. ``group/name``; a group names all of its tasks."""

from __future__ import annotations

if not __name__.startswith("parbench."):
    raise ImportError('this folder is imported as "parbench.tasks", not as "tasks"')

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError
from parbench.bench.util.registry import Registry
from parbench.bench.util.source_hash import source_hash

if TYPE_CHECKING:
    from parbench.tasks.base import Task
    from parbench.tasks.metrics.units import Unit

TASKS: Registry[Task] = Registry("task", entry_point_group="parbench.tasks", base="parbench.tasks.base:Task")
for _name, _attribute, _summary in (
    ("cola", "COLA", "linguistic acceptability"),
    ("sst2", "SST2", "sentiment of film reviews"),
    ("mrpc", "MRPC", "paraphrase"),
    ("stsb", "STSB", "semantic similarity, 0 to 5"),
    ("qqp", "QQP", "duplicate questions"),
    ("mnli", "MNLI", "inference, matched and mismatched genres"),
    ("qnli", "QNLI", "does the sentence answer the question"),
    ("rte", "RTE", "textual entailment"),
    ("wnli", "WNLI", "Winograd coreference as inference"),
):
    TASKS.register(f"glue/{_name}", f"parbench.tasks.glue:{_attribute}", f"GLUE: {_summary}")
TASKS.register(
    "mmlu_subject", "parbench.tasks.mmlu_subject:MMLU_SUBJECT", "the subject, of 57, of one of MMLU's exam questions"
)
TASKS.register(
    "boolq_passage", "parbench.tasks.boolq_passage:BOOLQ_PASSAGE", "does a passage belong to one of BoolQ's questions"
)
TASKS.register(
    "e2e_nlg", "parbench.tasks.e2e_nlg:E2E_NLG", "E2E NLG challenge: a restaurant's attributes put into words"
)
TASKS.register(
    "restaurants_nlg", "parbench.tasks.e2e_nlg:RESTAURANTS_NLG", "restaurants made up by this project, in E2E's format"
)
TASKS.register("instruct", "parbench.tasks.instruct:INSTRUCT", "instruction tuning on Alpaca, scored by likelihood")
TASKS.register(
    "instruct_mini",
    "parbench.tasks.instruct:INSTRUCT_MINI",
    "instructions made of rows of other sets, scored by likelihood",
)
TASKS.register(
    "mt_bench", "parbench.tasks.mt_bench:MT_BENCH_TASK", "MT-Bench after Alpaca: 80 questions of two turns, judged"
)
TASKS.register(
    "vicuna_bench", "parbench.tasks.mt_bench:VICUNA_BENCH_TASK", "Vicuna-bench after Alpaca: 80 questions, judged"
)
TASKS.register(
    "mt_bench_mini",
    "parbench.tasks.mt_bench:MT_BENCH_MINI",
    "MT-Bench's questions after instruct_mini's instructions, judged",
)
TASKS.register(
    "commonsense", "parbench.tasks.commonsense.task:COMMONSENSE", "eight commonsense sets, trained on as one mixture"
)
for _name, _attribute in (
    ("boolq", "BOOLQ"),
    ("piqa", "PIQA"),
    ("siqa", "SIQA"),
    ("hellaswag", "HELLASWAG"),
    ("winogrande", "WINOGRANDE"),
    ("arc_easy", "ARC_EASY"),
    ("arc_challenge", "ARC_CHALLENGE"),
    ("openbookqa", "OPENBOOKQA"),
):
    TASKS.register(
        f"commonsense_single/{_name}", f"parbench.tasks.commonsense.task:{_attribute}", f"commonsense: {_name} alone"
    )
TASKS.register("gpt4tools/unseen", "parbench.tasks.gpt4tools:UNSEEN", "GPT4Tools: calls of tools that training has not")
TASKS.register("gpt4tools/seen", "parbench.tasks.gpt4tools:SEEN", "GPT4Tools: calls of tools known from training")
for _name, _summary in (
    ("oxford_pets", "37 breeds of cats and dogs"),
    ("stanford_cars", "196 car models"),
    ("cifar10", "10 kinds of things, 32 pixels"),
    ("cifar100", "100 kinds of things, 32 pixels"),
    ("dtd", "47 textures"),
    ("eurosat", "10 land uses from orbit"),
    ("fgvc_aircraft", "100 aircraft variants"),
    ("resisc45", "45 scenes from the air"),
    ("digits", "scikit-learn's 8 x 8 digits"),
    ("digits_few", "the same, of which a hundred are trained on"),
):
    TASKS.register(f"vision/{_name}", f"parbench.tasks.vision:{_name.upper()}", f"images: {_summary}")
for _name, _summary in (
    ("cub200", "200 birds"),
    ("nabirds", "555 birds"),
    ("oxford_flowers", "102 flowers"),
    ("stanford_dogs", "120 dogs"),
    ("stanford_cars", "196 cars"),
):
    TASKS.register(f"fgvc/{_name}", f"parbench.tasks.fgvc:{_name.upper()}", f"FGVC: {_summary}")
for _name in (
    "caltech101",
    "cifar100",
    "dtd",
    "oxford_flowers102",
    "oxford_pets",
    "sun397",
    "svhn",
    "diabetic_retinopathy",
    "eurosat",
    "patch_camelyon",
    "resisc45",
    "clevr_count",
    "clevr_distance",
    "dmlab",
    "dsprites_location",
    "dsprites_orientation",
    "kitti_distance",
    "smallnorb_azimuth",
    "smallnorb_elevation",
):
    TASKS.register(f"vtab/{_name}", f"parbench.tasks.vtab:{_name.upper()}", f"VTAB-1k: {_name.replace('_', ' ')}")
for _name, _summary in (
    ("hmdb51", "51 human actions"),
    ("ucf101", "101 human actions"),
    ("ssv2", "174 things done to something"),
    ("moving_digits", "scikit-learn's digits, and which way they move"),
):
    TASKS.register(f"video/{_name}", f"parbench.tasks.video:{_name.upper()}", f"videos: {_summary}")
TASKS.register("math", "parbench.tasks.math_reasoning:MATH", "six sets of arithmetic word problems")
TASKS.register(
    "math_generated", "parbench.tasks.math_reasoning:MATH_GENERATED", "arithmetic word problems generated by rule"
)

for _name, _attribute, _summary in (
    ("digits_qa", "digits:DIGITS_QA", "questions made up by rule about four of scikit-learn's digits"),
    ("one_digit_qa", "digits:ONE_DIGIT_QA", "questions made up by rule about one of scikit-learn's digits"),
    ("vqa_v2", "questions:VQA_V2", "VQA v2, Karpathy's splits"),
    ("gqa", "questions:GQA", "GQA, balanced, scored on testdev"),
    ("nlvr2", "nlvr2:NLVR2", "NLVR2, a statement about two photographs"),
    ("coco_caption", "captions:COCO_CAPTION", "COCO captions, Karpathy's splits"),
):
    TASKS.register(f"vl/{_name}", f"parbench.tasks.vl.{_attribute}", f"images and text: {_summary}")
for _name, _summary in (
    ("tvqa", "TVQA, five answers, VALUE's validation split"),
    ("how2qa", "How2QA, four answers, VALUE's validation split"),
    ("tvc", "TVC, captions of moments, VALUE's validation split"),
    ("yc2c", "YouCook2's captions, VALUE's validation split"),
):
    TASKS.register(f"vl/{_name}", f"parbench.tasks.vl.videos:{_name.upper()}", f"videos and text: {_summary}")


def find_task(name: str, definition: Mapping[str, Any] | None = None) -> Task:
    """Return a task by its registered name, by the path of a YAML file, or by the content of such a file.

    Raises:
        UserError: there is no such task, or the file does not define one.
    """
    if definition is None and not is_task_file(name):
        return TASKS[name]
    from parbench.tasks.from_yaml import defined_task, task_of_file

    return task_of_file(Path(name)) if definition is None else defined_task(definition)


def is_task_file(name: str) -> bool:
    """Return whether a task's name is the path of a YAML file."""
    return name.endswith((".yaml", ".yml"))


def task_code(task: Task) -> str:
    """Return the hash of the source that a task consists of."""
    if task.definition is not None:
        return source_hash("parbench.tasks.from_yaml")
    return source_hash(TASKS.entry(task.name).module)


def metric_unit(task: str, metric: str) -> Unit:
    """Return the unit of a metric of a task.

    A record may be of a task that this installation lacks or cannot load; the unit is then that of the metric's name.
    """
    from parbench.tasks.metrics.units import RAW, UNITS, unit_among

    try:
        return TASKS[task].unit(metric)
    except UserError:  # not registered, or its package cannot be imported
        return unit_among(UNITS, metric) or RAW
