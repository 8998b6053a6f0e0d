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

import bench.epochs
import bench.measure
import bench.planned
import bench.run
import bench.train
import methods.loca.method
import methods.lora
import tasks.glue
import tasks.inference
import tasks.language_model

# What is here stays: no collection in a worker looks through it, nor copies its pages.
gc.freeze()

__all__ = ["bench", "datasets", "methods", "pandas", "peft", "pyarrow", "sklearn", "tasks", "transformers"]
