"""The names of the files and folders in a store.

Layout::

    STORE/
      lock.json                 revisions resolved at first use, see `parbench.tasks.data.lock`
      runs/RUN_ID/              a finished run
        record.json             written last: a run is done when it is there and complete
        predictions.parquet     per-example rows of the reported split
        logits.parquet          their logits, if no metric needs these
        selection.parquet       those of the selection split, of a run that chooses hyper-parameters
        history.jsonl, adapter/, error.txt, log.jsonl
      work/RUN_ID/              an unfinished run: checkpoints, log.jsonl, output.log and output/, the folder to be
      leases/RUN_ID.json        the lease of a run that a process is working on
      declarations/             the claims of papers that runs were planned for, see
                                `parbench.bench.store.declarations`
      tuned.yaml                the suite that `bench tune` found
      tensorboard/NAME/         what ``--report-to tensorboard`` shows
      comparisons/              results of `bench judge compare`, and the raw judgments
      profile/                  the profile that a report shows, if there is one
      deployment/RUN_ID/        what `bench adapter measure` found of the run's adapter, see
                                `parbench.bench.store.deployments`
      slurm/                    job files of submitit
      aside/                    records and tuned suites that were replaced, and records that could not be read: moved
                                here, never deleted
"""

from __future__ import annotations

from parbench.bench.train.checkpoints import CHECKPOINTS, COMPLETE

# Folders of a store.
RUNS = "runs"
WORK = "work"
LEASES = "leases"
DECLARATIONS = "declarations"
ASIDE = "aside"
TENSORBOARD = "tensorboard"
COMPARISONS = "comparisons"
PROFILE = "profile"
DEPLOYMENT = "deployment"
SLURM = "slurm"
# An import is unpacked into a folder of this prefix, beside the records.
IMPORTING = ".import-"

# Files of a store.
REVISIONS = "lock.json"
TUNED = "tuned.yaml"
# Held while a shared file of the store is read and rewritten.
LOCK = ".lock"

# Files of a run.
RECORD = "record.json"
PREDICTIONS = "predictions.parquet"
# Of rows whose metrics do not need them: the same rows in the same order.
LOGITS = "logits.parquet"
SELECTION_PREDICTIONS = "selection.parquet"
HISTORY = "history.jsonl"
ERROR = "error.txt"
ADAPTER = "adapter"
LOG = "log.jsonl"

# Of an unfinished run: the folder that becomes the run's, and what its process prints.
OUTPUT = "output"
PRINTED = "output.log"
# Markers of the checkpoints that were saved completely.
COMPLETE_CHECKPOINTS = f"{CHECKPOINTS}/{COMPLETE}"
