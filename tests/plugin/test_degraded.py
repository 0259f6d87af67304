"""What was not done as asked is said in the report, and does not fail it."""


def test_a_shrunk_budget_is_degraded_and_not_a_reason(pytester):
    pytester.makeini("[pytest]\n")
    pytester.makefile(
        ".toml", policy='name = "p"\nmodels = ["*"]\n[[gate]]\nname = "a"\nmetric = "accuracy"\nmin = 0.5\n'
    )
    pytester.makepyfile(
        test_suite="""
        def test_x(record):
            budgets = [4096]
            record.degradations.append(lambda: f"batches were cut to {budgets[-1]} positions" if budgets[-1] < 4096 else None)
            record.degradations.append(lambda: None)
            budgets.append(2048)
            record("accuracy", 1.0, n=3)
        """
    )
    done = pytester.runpytest_inprocess("--trialplate-report=out", "--trialplate-policy=policy.toml")
    done.stdout.fnmatch_lines(["*degraded: batches were cut to 2048 positions", "pass_all: yes*"])
    assert done.ret == 0
