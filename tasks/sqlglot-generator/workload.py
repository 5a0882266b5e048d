"""Writing parsed queries as text in two dialects."""

import random

import sqlglot

QUERIES = 25
QUERY = """
SELECT a + b * c - {first} AS x_{first}, CASE WHEN y > 3 AND z IN (1, 2, {second}) THEN 'p' ELSE q END AS w,
       SUM(v) OVER (PARTITION BY k ORDER BY t)
FROM s.t_{first} AS t1 LEFT JOIN u ON t1.id = u.id AND u.f IS NOT NULL
WHERE a BETWEEN 1 AND {second} GROUP BY 1, 2 HAVING COUNT(*) > 2 ORDER BY 1 LIMIT 10
"""


def setup(seed):
    rng = random.Random(seed)
    numbers = [(rng.randrange(10**6), rng.randrange(10**6)) for _ in range(QUERIES)]
    return [sqlglot.parse_one(QUERY.format(first=first, second=second)) for first, second in numbers]


def run(queries):
    return [query.sql(dialect) for dialect in ("duckdb", "bigquery") for query in queries]
