"""LoRA-Gen: a large model reads a system prompt once and generates a LoRA for a small one.

Xiao et al., "LoRA-Gen: Specializing Large Language Model via Online LoRA Generation", ICML 2025, arXiv:2506.11638.
Official code is not available; this was written from the paper. Training::

    lora_gen = LoraGen(cloud, edge, LoraGenConfig(), tokenizer)   # two causal language models of transformers
    output = lora_gen(system_prompt_ids, system_prompt_mask, input_ids=input_ids, labels=labels)
    output.loss.backward()                                        # or methods.lora_gen.training.train
    lora_gen.save_pretrained("generator")                         # only what is trained

The cloud's LoRA, the meta tokens, the routers and the experts are trained; the weights of both models are frozen. Every
sample of a batch has its own system prompt and LoRA. Inference::

    lora_gen = LoraGen.from_pretrained("generator", cloud, edge, tokenizer)
    adapter = lora_gen.generate("You are a poet. Answer in verse.")
    adapter.save("poet")                                          # PeftModel.from_pretrained(edge, "poet")
    poet = adapter.merge(lora_gen.release_edge())                 # or any other copy of the edge model

The edge model then needs neither the system prompt nor this package, and a merged one is as large and as fast as
before.

For layer i of L of the edge: L meta tokens follow the system prompt; the cloud's last hidden state at the i-th is T_i
(`MetaTokenEncoder`). The layer's router computes from it the gates of the layer's n experts, K of them not zero
(`Router`). The experts' LoRAs of the feed-forward projections, weighted with the gates, are summed to one
(`ExpertPool`), which is applied to the sample in training (`EdgeLinear`) and exported as a peft adapter afterwards
(`GeneratedAdapter`). A loss on unevenly used experts is added to the edge's cross-entropy (`load_balance`).

The paper states n = 8, K = 2, r = 16, alpha = 16, dropout 0.05, a LoRA on the cloud's query and value, and the
coefficient 0.01. The points that it leaves open:

======================  =================================================================  =========================
open in the paper       done here                                                          option
======================  =================================================================  =========================
what T_i is             the last hidden state after the final norm                         none
one pass or many        one causal pass, as the text has it; the caption of Figure 3       none
                        has "autoregressively"
embedding of <meta>     one trained vector L times ("L special tokens <meta>")             ``meta_embedding``
its start               drawn with the mean and spread of the cloud's vocabulary           none
r, alpha, dropout       Table 10 has one line; both the cloud's and the experts'           ``cloud_r`` and so on
expert pools            one a layer, as Figure 3 draws ("x L"); equation 8 has no index    none
start of the experts    LoRA's: A uniform, B zero. The language model's gradient reaches   none
                        router and cloud only after the first step
equation 8              literally: A and B are each averaged, of rank r; the other         ``mixing``
                        reading averages the products B A and has rank K r
width of a router       256; the linear layers have biases                                 ``router_hidden``
BatchNorm               affine, torch's momentum and epsilon. Running statistics in        ``router_norm``
                        evaluation, and for a training batch of one prompt, which leaves
                        them as they are. Not synchronised between devices. A batch of
                        equal prompts has no variance: mix prompts
Gumbel routing          noise drawn for each expert, in training only; then the K          ``routing="gumbel"``
                        largest as without noise, since Table 8 calls it "GumbleTOP-K"
direct generation       a network for each layer, linear, SiLU, linear, on T_i; its        ``routing="direct"``,
                        hidden width n makes it as large as the pool. Shapes as the        ``direct_hidden``
                        edge's, where the paper's 3 x 2 x d x r ignores the width f
sigma and mu, eq. 9     over the n sums of an expert's gates in the batch, one prompt      ``balance_std``,
                        a sample; biased deviation; mean over the layers. A batch is what  ``balance_layers``
                        one forward pass sees, not what gradients are accumulated over
edges without a gate    an expert has two blocks: GPT-2's c_fc and c_proj, OPT's fc1 and   ``projections``
                        fc2 (Table 4 has OPT-2.7B, but not how)
edge's own weights      frozen                                                             none
chat template           none: text goes through the cloud's tokenizer as it is             give token ids
======================  =================================================================  =========================

Training's own open points are in `parbench.methods.lora_gen.training`.

In the benchmark it is the method ``lora_gen`` (`parbench.methods.lora_gen.method`): the base model is the edge, and by
default its frozen weights are the cloud as well. A task with a separate system prompt
(`parbench.tasks.kinds.system_prompt`) gives the edge the question only:

======================  =================================================================  =========================
open in the paper       done in the benchmark                                               option
======================  =================================================================  =========================
shots of a training     as many for each, of the same set, drawn once for each question;   ``system_shots`` of
prompt                  never the question itself                                          ``commonsense``
prompt of evaluation    one for a set, so that a set is evaluated with one LoRA; drawn     ``system_shots``
                        from its training split, of unseen sets too
words of a shot         those of training: question and right answer                       ``train_text``
accumulated batches     each forward pass has its own L_cv; they are averaged with the     none
                        weights of the passes in the task's loss
======================  =================================================================  =========================

A run writes the generator and, below ``delivered``, the LoRA of each evaluated set for peft. Its cost is measured by
``bench profile``, and against a prompt in the context by ``python -m tests.perf.lora_gen_latency`` in the repository.
"""

from .config import LoraGenConfig
from .export import GeneratedAdapter
from .model import LoraGen, LoraGenOutput, LoraGenParameterCounts

__all__ = ["GeneratedAdapter", "LoraGen", "LoraGenConfig", "LoraGenOutput", "LoraGenParameterCounts"]
