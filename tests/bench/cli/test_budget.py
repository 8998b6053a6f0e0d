"""`bench budget`: one row per method expression, with progress while it counts."""


def test_rows_of_one_method_are_distinct(bench):
    expressions = ["lora(r=8)", "lora(layers=[0])"]
    result = bench("budget", "--model", "roberta-base", "--budget", "300k", "--methods", ",".join(expressions))
    assert result.code == 0
    for number, expression in enumerate(expressions, 1):
        assert sum(line.strip().startswith(f"{expression} ") for line in result.out.splitlines()) == 1
        assert f"counting {expression} ({number} of 2)" in result.err
