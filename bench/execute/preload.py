"""What the server that workers are forked from imports: everything that takes long, nothing that starts anything."""

import gc

import datasets
import pandas
import peft
import pyarrow.parquet
import sklearn.metrics
import sklearn.model_selection
import transformers.models.bert.modeling_bert
import transformers.models.gpt2.modeling_gpt2
import transformers.models.llama.modeling_llama
import transformers.models.roberta.modeling_roberta
import transformers.models.vit.modeling_vit
import transformers.trainer

import parbench.bench.models.parameter_counts
import parbench.bench.plan.planned_run
import parbench.bench.run.execute_run
import parbench.bench.run.memory
import parbench.bench.train.best_epoch
import parbench.bench.train.train
import parbench.methods.loca.method
import parbench.methods.lora
import parbench.tasks.glue
import parbench.tasks.inference
import parbench.tasks.kinds.language_model

# Objects that exist now are excluded from garbage collection, so that workers do not copy their memory pages.
gc.freeze()

__all__ = ["datasets", "pandas", "parbench", "peft", "pyarrow", "sklearn", "transformers"]
