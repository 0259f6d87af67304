"""A coder's files: what is written is what was read, key by key, and computes the same code. Budget: 1 CPU second."""

from evals.domain_texts import APPLIES

pytestmark = APPLIES


def test_round_trip(coder, held_out, about, record, tmp_path):
    """Code and output of held-out rows after writing and reading again, and how far decoder rows are from unit length."""
    import torch

    from trialplate.sae.formats import load_coder, saelens

    saelens.write(coder, tmp_path / "coder")
    again = load_coder(tmp_path / "coder").to(coder.W_dec.device)
    x = held_out.rows(torch.arange(min(512, held_out.n_rows)))[0].to(coder.W_dec)
    before, after = coder.encode(x).dense(), again.encode(x).dense()
    record("code_gap", float((before - after).abs().max() / before.abs().max()), n=len(x), of="code", **about)
    made, again_made = coder(x), again(x)
    record("code_gap", float((made - again_made).abs().max() / made.abs().max()), n=len(x), of="output", **about)
    record("decoder_norm_gap", float((coder.W_dec.norm(dim=1) - 1).abs().max()), n=coder.config.d_sae, **about)
    assert before.any()
