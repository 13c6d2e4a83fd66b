"""How long an LLM serving engine takes for a step: one pass of the model over the tokens of a batch.

A step computes the next part of some prompts (prefill) and one more token of each sequence that generates (decode).

    t = overhead + max(weights + experts * touched(expert_share * T), token * T) + activation * T + sequence * n
        + generated * K                                                            where no prompt is in the step
        + max(longest * L, chunk * sum over prompt parts of max(P, floor) * (k + P / 2)
                           + mixed * K + mixed_sequence * n + uneven * L)          where one is
        + link + link_token * T

with T tokens in all, n sequences that generate, of which each attends to as many tokens as it has so far and their sum
is K; P tokens of a prompt of which k are computed already; and L tokens of the longest sequence, prompts (k + P)
included. The weights are read once however many tokens there are, of a mixture of experts those of the experts that any
token is sent to: with x times as many choices as experts a share of 1 - e^-x is chosen, which `touched` is to 3 %. What
a token adds even where the weights take longer is `activation`: products grow by tiles, long before arithmetic takes
over; in a large step a token takes both. Small prompt parts cost as much attention as `floor` tokens; and beside a
prompt, attention of those that generate costs more a token, and something a sequence, but all of it no less than the
longest one takes alone: it is one piece of work on one of the GPU's processors, of which the others, done before, wait
for a part of it (`uneven`), at most as long as it takes (Graham, SIAM J. Appl. Math. 17(2), 1969). It is the roofline
of Williams, Waterman & Patterson (CACM 52(4), 2009) with those corrections, which vLLM's measured kernels need.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepTime:
    """Coefficients of the time of a step, all in seconds (a token, or a token squared), but `floor` in tokens.

    `expert_share` is the share of the experts that a token is sent to.
    """

    overhead: float
    weights: float
    token: float
    sequence: float = 0.0
    chunk: float = 0.0
    floor: float = 0.0
    generated: float = 0.0
    mixed: float = 0.0
    mixed_sequence: float = 0.0
    longest: float = 0.0
    uneven: float = 0.0
    activation: float = 0.0
    link: float = 0.0
    link_token: float = 0.0
    experts: float = 0.0
    expert_share: float = 0.0

    def seconds(self, tokens: float, generating: float, attended: float, longest: float, attention: float) -> float:
        """Time of a step of `tokens`, where `generating` sequences attend to so many tokens in all.

        `longest` are the tokens of the longest sequence, prompts included; it matters where there are prompts.
        `attention` is the sum over the prompt parts of `prompt_attention`, 0 where there are none.
        """
        return step_seconds(
            self.overhead, self.weights, self.token, self.sequence, self.chunk, self.generated, self.mixed,
            self.mixed_sequence, self.longest, self.uneven, self.activation, self.link, self.link_token,
            self.experts, self.expert_share,
            tokens, generating, attended, longest, attention,
        )  # fmt: skip

    def prompt_attention(self, computed: float, part: float) -> float:
        """What a part of a prompt adds to `attention`, in tokens squared: `part` tokens after `computed` ones."""
        return prompt_attention(self.floor, computed, part)


def prompt_attention(floor: float, computed: float, part: float) -> float:
    """See `StepTime.prompt_attention`; both engines calculate by this."""
    return max(part, floor) * (computed + 0.5 * part)


def step_seconds(
    overhead: float, weights: float, token: float, sequence: float, chunk: float, generated: float, mixed: float,
    mixed_sequence: float, longest_token: float, uneven: float, activation: float, link: float, link_token: float,
    experts: float, expert_share: float,
    tokens: float, generating: float, attended: float, longest: float, attention: float,
) -> float:  # fmt: skip
    """See `StepTime.seconds`; both engines calculate by this."""
    chosen = expert_share * tokens
    touched = 1.0 - 1.0 / (1.0 + chosen * (1.0 + chosen * (0.5 + chosen / 6.0)))
    seconds = overhead + max(weights + experts * touched, token * tokens) + sequence * generating
    if attention > 0.0:
        together = chunk * attention + mixed * attended + mixed_sequence * generating + uneven * longest
        seconds += max(longest_token * longest, together)
    else:
        seconds += generated * attended
    return seconds + (link + (activation + link_token) * tokens)
