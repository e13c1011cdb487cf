"""What the names of metrics tell: whether less or more is better."""

from __future__ import annotations

import re

#: Words of names of which less is usually better, and ends of such words.
_LESS = re.compile(
    "err|lat|time|ms|us|ns|sec|seconds|delay|energy|joules|mj|power|watts|mem|memory|mib|gib|ppl|nll|bpd|bpc"
    "|rmse|mae|mse|mape|mre|epe|wer|cer|fid|eer|regret|rank"
)
_LESS_ENDS = ("error", "err", "loss", "latency", "time", "perplexity", "rmse")
#: Words of names of which more is usually better, and ends of such words.
_MORE = re.compile(
    "top|top[15]|m?ap|ar|m?iou|pq|oa|dice|f1|auc|auroc|auprc|recall|precision|sensitivity|specificity|kappa|mcc"
    "|psnr|ssim|bleu|rouge|meteor|cider|ndcg|mrr|pck|mota|hota|idf1|r2|pearson|spearman|kendall|plcc|srcc"
    "|reward|speed|throughput|fps|qps"
)
_MORE_ENDS = ("acc", "accuracy", "iou", "psnr", "auc")


def usual(name: str) -> str | None:
    """Return "min" or "max": whether less or more is usually better of what has this name; None: unknown.

    Where one of its words says less ("top1_err"), less is better.
    """
    words = set()
    for form in (re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name), name):
        for separator in (r"[^a-z0-9]+", r"[^a-z0-9]+|(?<=\D)\d+"):
            words |= {word for word in re.split(separator, form.lower()) if word}
    if any(_LESS.fullmatch(word) or word.endswith(_LESS_ENDS) for word in words):
        return "min"
    if any(_MORE.fullmatch(word) or word.endswith(_MORE_ENDS) for word in words):
        return "max"
    return None
