"""Metrics shared by every method.

`anatozoo.metrics.cases` gives the row of numbers of one prediction beside its reference; functions are in
`anatozoo.metrics.functional`, `anatozoo.metrics.plausibility` and `anatozoo.metrics.registration`; Dice and
surface distances as `torchmetrics.Metric` are in `anatozoo.metrics.classes`.
"""
