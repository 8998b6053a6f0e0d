"""`bench budget`: one row per method expression, with progress while it counts."""


def test_rows_of_one_method_are_distinct(bench):
    expressions = ["lora(r=8)", "lora(layers=[0])"]
    result = bench("budget", "--model", "roberta-base", "--budget", "300k", "--methods", ",".join(expressions))
    assert result.code == 0
    for number, expression in enumerate(expressions, 1):
        assert sum(line.strip().startswith(f"{expression} ") for line in result.out.splitlines()) == 1
        assert f"counting {expression} ({number} of 2)" in result.err


def test_a_rank_beyond_the_weights_is_noted(bench, tiny_model):
    result = bench("budget", "--model", tiny_model, "--budget", "match:lora(r=40)", "--methods", "lora(r=8)")
    assert result.code == 0, result.err
    (note,) = [line for line in result.out.splitlines() if "the parameters beyond add nothing" in line]
    assert note.startswith('lora(r=8): "lora" has rank 40, but an update of ')
