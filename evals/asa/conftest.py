"""What the evals of Addressed State Models share: the plain model behind a subject, that of its random twin, and rows of held-out text.

They are for models of that architecture; of any other model none of them is collected."""

import pytest


@pytest.fixture
def asm(model):
    """The subject as a plain ASMLanguageModel, in the mode of the model that wraps it."""
    return model.module.language_model.train(model.module.training)


@pytest.fixture
def asm_twin(control):
    """Its random twin as a plain ASMLanguageModel."""
    return control.module.language_model.train(control.module.training)


@pytest.fixture
def rows(model, record, limit):
    """rows(n): n rows of held-out text, named in the report by content."""
    from evals.asa.rows import held_out_rows

    def held_out(n):
        found = held_out_rows(model, limit(n))
        record.uses("corpus_held_out_rows", found.digest, len(found))
        return found

    return held_out
