"""Who is served worse?
====================

Audit a model by groups of patients: gaps with intervals and tests, and what is left of them among patients
who are alike in something else.

The table is invented, so that it is known what an audit should find. ``anatozoo evaluate`` writes such a
table for a model and a data set, and ``anatozoo predict`` one without truth. Run it with ``python
examples/plot_audit.py``.
"""

import numpy as np
import pandas as pd

from anatozoo.fairness import GroupFrame
from anatozoo.fairness.draw import plot_gaps, plot_groups

# %%
# 400 patients. The model is .06 worse for the old, and treats the sexes alike. But most women of this
# hospital are old, and most men are not.
draw = np.random.default_rng(1)
n = 400
female = draw.random(n) < 0.5
old = draw.random(n) < np.where(female, 0.75, 0.25)
table = pd.DataFrame(
    {
        "id": [f"p{i:03}" for i in range(n)],
        "sex": np.where(female, "F", "M"),
        "age": np.where(old, draw.integers(65, 90, n), draw.integers(30, 65, n)),
        "dice/heart": np.clip(0.94 - 0.06 * old + 0.03 * draw.normal(size=n), 0, 1),
    }
)
table.head()

# %%
# By sex alone there is a gap, and chance does not explain it: all of its 95 % interval is on one side of 0.
by_sex = GroupFrame(table, "dice/heart", "sex")
by_sex.summary().round(3)

# %%
plot_groups(by_sex)

# %%
# Among patients of the same age there is none. ``controls`` compares within strata and averages over them.
within = GroupFrame(table, "dice/heart", "sex", controls="age_bin", bins={"age": [65]})
for raw, adjusted in zip(within.pairs, within.adjusted, strict=True):
    print(f"gap {raw.a} - {raw.b}: {raw.gap:+.3f} ({raw.ci_low:+.3f} to {raw.ci_high:+.3f}), p {raw.p:.4f}")
    low, high = adjusted.ci_low, adjusted.ci_high
    print(f"  among patients of one age: {adjusted.gap:+.3f} ({low:+.3f} to {high:+.3f})")
plot_gaps(within)

# %%
# By age it stands where it belongs. A confounder that is not in the table stays hidden: an audit that finds
# nothing, or explains a gap away, says so of the columns that it was given.
by_age = GroupFrame(table, "dice/heart", "age_bin", bins={"age": [65]})
plot_groups(by_age)

# %%
# ``anatozoo audit table.csv --groups sex,age_bin --controls age_bin --out report`` writes all of it as one
# page for the browser, with a sentence for each finding and the caveats to know before acting on it.
