"""Tables of what `efficiency.measure` and `claims.check_claims` return."""

from collections.abc import Mapping, Sequence
from typing import Any

from vae_jcc.benchmark.tables import Table

_COLUMNS = (
    "system",
    "makes",
    "parameters",
    "weights (bytes)",
    "MACs/pixel",
    "bytes/image",
    "peak MiB, batch 1",
    "peak MiB, batch n",
    "latency (ms)",
    "images/s",
    "batch n",
    "J/image",
)


def efficiency_tables(rows: Sequence[Mapping[str, Any]], threads: int) -> list[Table]:
    """Returns a table for each image size; medians of the rounds, and half the range between the extremes."""
    sizes = list(dict.fromkeys((*row["size"], row["channels"]) for row in rows))
    tables = []
    for height, width, channels in sizes:
        group = [row for row in rows if (*row["size"], row["channels"]) == (height, width, channels)]
        title = f"{height}x{width}x{channels}, {threads} thread{'s' if threads > 1 else ''}"
        tables.append(Table(title, _COLUMNS, [_cells(row) for row in group], text_columns=2))
    return tables


def claims_table(lines: Sequence[Mapping[str, Any]]) -> Table:
    """Returns a row for each claim and encoder: against which baselines it is confirmed, and against which not."""
    verdicts = ("confirmed", "not confirmed", "undecided")
    rows = []
    for line in lines:
        where = f"{line['size'][0]}x{line['size'][1]}"
        mark = " [estimated]" if line["estimated"] else ""
        cells = [
            ", ".join(_figure(a, line["saving"]) for a in line["against"] if a["verdict"] == verdict) or "-"
            for verdict in verdicts
        ]
        rows.append([f"{line['system']}, {where}", line["text"] + mark, *cells])
    return Table("The paper's claims", ("encoder", "claim", *(f"{v} against" for v in verdicts)), rows, text_columns=5)


def _figure(against: Mapping[str, Any], saving: bool) -> str:
    value = against["figure"]
    if not saving:
        return f"{against['system']} (x{f'{value:.0f}' if value >= 10 else f'{value:.2g}'})"
    # 99.96 % must not become "100 %": something is left.
    text = f"{100 * value:.1f}" if value < 0.999 else f"{100 * value:.3f}"
    return f"{against['system']} ({text} %)"


def _cells(row: Mapping[str, Any]) -> list[str]:
    energy = f"{_median(row['joules_per_image'])}{' est.' if row['energy'] == 'estimated' else ''}"
    return [
        row["system"],
        row["output"],
        f"{row['parameters']:,}",
        f"{row['weight_bytes']:,}",
        "-" if row["macs_per_pixel"] is None else f"{row['macs_per_pixel']:,.0f}",
        "-" if row["bytes_per_image"] is None else f"{row['bytes_per_image']:,.0f}",
        f"{row['peak_mib']['batch_1']:,.0f}",
        f"{row['peak_mib']['batch_n']:,.0f}",
        _median(row["latency_ms"], spread=True),
        _median(row["images_per_s"], spread=True),
        str(row["batch"]),
        energy,
    ]


def _median(values: Mapping[str, Any], spread: bool = False) -> str:
    text = _number(values["median"])
    return f"{text} +- {_number((values['max'] - values['min']) / 2)}" if spread else text


def _number(value: float) -> str:
    """Returns three significant digits, without an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    digits = 0
    while digits < 8 and 0 < abs(value) * 10**digits < 100:
        digits += 1
    return f"{value:.{digits}f}"
