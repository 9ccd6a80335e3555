def attribute(mask, annotation, attention):
    attended = attention.any((1, 2), keepdims=True)
    lost, extra = annotation & ~mask, mask & ~annotation
    return {
        "missed_slice": (lost & ~attended).sum(),
        "cut_off": (lost & attended & ~attention).sum(),
        "overlooked": (lost & attention).sum(),
        "leaked": (extra & attention).sum(),
        "stray": (extra & ~attention).sum(),
    }
