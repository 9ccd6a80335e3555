"""What readers get wrong: an edit of a solution, and the check that must notice it.

Each row is the function, what stands in the solution, what a reader may write in its place, and words of the check that
fails.
"""

MISTAKES = [
    # 01
    ("iou", "if together else 1.0", "", "both are empty"),
    ("iou", "np.asarray(a) != 0, np.asarray(b) != 0", "np.asarray(a), np.asarray(b)", "0 and 255"),
    ("iou", "together = (a | b).sum()", "together = a.sum() + b.sum()", "two squares"),
    # 02
    ("scatter", "* np.sqrt(0.5)", "", "the mean power of muscle"),
    ("scatter", "echogenicity_db / 20", "echogenicity_db / 10", "a hundred times"),
    ("scatter", "parts[0] + 1j * parts[1]", "parts[0] + 1j * parts[0]", "mean over deviation"),
    ("attenuate", "loss = 2 * ", "loss = ", "10 dB a row"),
    ("attenuate", "row_mm / 10", "row_mm", "10 dB a row"),
    ("attenuate", "cumsum(1)", "cumsum(0)", "one layer"),
    ("grey", ".clip(0, 255)", "", "too bright"),
    ("grey", "20 * np.log10", "10 * np.log10", "ten times the amplitude"),
    ("grey", "np.abs(echo)", "echo.real", "only the modulus"),
    ("place", "affine[:3, :3].T", "affine[:3, :3]", "ten slices"),
    ("place", " + affine[:3, 3]", "", "(0, 0, 0)"),
    # 03
    ("box_iou", ".clamp(min=0)", "", "apart along both axes"),
    (
        "box_iou",
        "torch.where(together > 0, shared / together.clamp(min=1e-9), 0.0)",
        "shared / together",
        "without area",
    ),
    ("box_iou", "b[..., :2])\n", "b[..., :2]) + 1\n", "side by side"),
    (
        "encode",
        "boxes[:, :2] + size / 2 - anchors[:, :2] - anchor_size / 2",
        "boxes[:, :2] - anchors[:, :2]",
        "20 x 80",
    ),
    ("encode", "torch.log(size / anchor_size)", "size / anchor_size - 1", "20 x 80"),
    (
        "anchor_grid",
        "(column + 0.5) * stride, (row + 0.5) * stride",
        "column * stride, row * stride",
        "centre of a cell",
    ),
    ("anchor_grid", "size / ratio**0.5, size * ratio**0.5", "size, size * ratio", "ratio 4"),
    ("anchor_grid", "size / ratio**0.5, size * ratio**0.5", "size * ratio**0.5, size / ratio**0.5", "ratio 4"),
    (
        "anchor_grid",
        "for ratio in ratios:\n                for size in sizes:",
        "for size in sizes:\n                for ratio in ratios:",
        "all sizes",
    ),
    # 04
    ("match", "& (reached > 0)", "", "without a box"),
    ("match", "most > positive_iou", "most >= positive_iou", "exactly 0.7"),
    ("match", "((iou == reached) & (reached > 0)).any(1)", "iou.argmax(0)[reached > 0]", "tie"),
    ("match", "label[((iou == reached) & (reached > 0)).any(1)] = 1", "pass", "reaches 0.7"),
    ("rpn_loss", ".clamp(min=1)", "", "no positive"),
    ("rpn_loss", 'reduction="sum"', 'reduction="mean"', "the three anchors"),
    ("rpn_loss", "sum(kinds) / len(kinds)", "sum(kinds)", "the three anchors"),
    ("rpn_loss", "F.smooth_l1_loss", "F.mse_loss", "far off"),
    # 05
    ("nms", "for j in kept)", "for j in range(len(boxes)) if scores[j] > scores[i])", "drops no other"),
    ("nms", "<= limit", "< limit", "exactly the limit"),
    ("nms", "scores.argsort(descending=True)", "scores.argsort()", "the better of two"),
    ("select", ">= proposals.threshold", "> proposals.threshold", "at the threshold"),
    ("select", "> proposals.nms_iou) & (area > 0)", "> proposals.nms_iou) & left", "vote with their scores"),
    ("select", "(score >= proposals.threshold) & (area > 0)", "score >= proposals.threshold", "without area"),
    # 06
    ("coverage_and_leakage", "1 - shared / attention.sum()", "1 - shared / annotation.sum()", "4 of 6"),
    ("coverage_and_leakage", "if annotation.any() else 1.0", "", "nothing to keep"),
    ("boxes_to_mask", "torch.ceil(boxes - 0.5)", "boxes.round()", "first edge"),
    ("boxes_to_mask", ".clamp(min=0)", "", "beyond the border"),
    ("boxes_to_mask", "[y0:y1, x0:x1] = True", "[y0 : y1 + 1, x0 : x1 + 1] = True", "whole edges"),
    ("boxes_to_mask", "[y0:y1, x0:x1] = True", "[y0:y1, x0:x1] ^= True", "the same box twice"),
    ("boxes_to_mask", "[y0:y1, x0:x1] = True", "[x0:x1, y0:y1] = True", "whole edges"),
    # 07
    ("count_parameters", "27 * c * d + d", "27 * c * d", "the head"),
    ("count_parameters", "conv(c + width, width)", "conv(c, width)", "one pooling"),
    ("UNet3D", "return self.head(x)[", "return self.head(x).softmax(1)[", "logits"),
    ("UNet3D", "        x = F.pad(x, [p for n in reversed(size) for p in (0, -n % multiple)])\n", "", "do not divide"),
    ("UNet3D", "reversed(size)", "size", "do not divide"),
    (
        "UNet3D",
        "nn.Conv3d(c_in, c_mid, 3, padding=1), nn.Conv3d(c_mid",
        "nn.Conv3d(c_in, c_mid, 3, padding=2, dilation=2), nn.Conv3d(c_mid",
        "by gradient",
    ),
    # 08
    ("cross_entropy", "torch.logsumexp(logits, 1)", "logits.exp().sum(1).log()", "logits of 1000"),
    ("cross_entropy", ".mean()", ".sum()", "two scans"),
    ("dice", "2 * (a & b)", "(a & b)", "share 8"),
    ("dice", "if total else 1.0", "", "both are empty"),
    ("hausdorff95", "~surface, spacing", "~surface", "0.5 mm apart"),
    ("hausdorff95", "surfaces[1]], 95", "surfaces[1]], 100", "a stray voxel"),
    (
        "hausdorff95",
        "return max(np.percentile(away[1][surfaces[0]], 95), np.percentile(away[0][surfaces[1]], 95))",
        "return np.percentile(np.r_[away[1][surfaces[0]], away[0][surfaces[1]]], 95)",
        "each direction",
    ),
    ("hausdorff95", 'return 0.0 if a.any() == b.any() else float("inf")', "return 0.0", "one is empty"),
    # 09
    (
        "places",
        "(np.arange(count) - (count - 1) / 2) * step / scan_step + (scan_count - 1) / 2",
        "np.arange(count) * step / scan_step",
        "five voxels",
    ),
    ("places", "(scan_count - 1) / 2", "scan_count / 2", "five voxels"),
    ("attended_region", "np.ceil(margin / step)", "np.ceil(margin)", "in mm"),
    ("attended_region", "np.ceil(margin / step)", "np.floor(margin / step)", "a part of a voxel"),
    ("attended_region", "    if not attention.any():\n        return (slice(None),) * 3\n", "", "no box"),
    (
        "attended_region",
        "min(max((first + end - length) // 2, 0), size - length)",
        "(first + end - length) // 2",
        "at the border",
    ),
    # 10
    ("seed_means", "np.nanmean", "np.mean", "without a number"),
    ("seed_means", "np.unique(seeds)", "dict.fromkeys(seeds.tolist())", "ascending"),
    ("t_interval", "values.std(ddof=1)", "values.std()", "against SciPy"),
    ("t_interval", "stats.t.ppf((1 + level) / 2, n - 1)", "stats.norm.ppf((1 + level) / 2)", "from a table"),
    ("t_interval", "(1 + level) / 2, n - 1", "level, n - 1", "against SciPy"),
    (
        "holm",
        "np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))",
        "(p[order] * np.arange(len(p), 0, -1))",
        "never falling",
    ),
    ("holm", "result[order] = adjusted", "result[:] = adjusted", "in any order"),
    ("holm", ".clip(max=1)", "", "no more than 1"),
    # 11
    ("attribute", "(lost & attended & ~attention)", "(lost & ~attention)", "nothing is cut off"),
    ("attribute", "attention.any((1, 2), keepdims=True)", "attention.any()", "in another slice"),
    # 12
    ("over_infants", "setdefault(infant, [])", "setdefault(len(of), [])", "counts once"),
    ("over_infants", "if np.isfinite(value)", "if True", "without a number"),
]
