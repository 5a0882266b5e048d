"""Questions about the columns of a few tables: their names, types, whether they exist."""

import random

from sqlglot import exp
from sqlglot.schema import MappingSchema

TABLES = 10
COLUMNS = 15
QUESTIONS = 2500
TYPES = ["int", "text", "double", "date"]


def setup(seed):
    """The schema, its tables as expressions, and (table, column) pairs; a tenth of the columns do not exist."""
    rng = random.Random(seed)
    names = [f"Sales_{value}" for value in rng.sample(range(1000, 9999), TABLES)]
    columns = {
        name: {f"Col_{value}": rng.choice(TYPES) for value in rng.sample(range(100, 999), COLUMNS)} for name in names
    }
    schema = MappingSchema({"Shop": columns})
    tables = [exp.Table(this=exp.to_identifier(name), db=exp.to_identifier("Shop")) for name in names]
    questions = []
    for number in range(QUESTIONS):
        table = rng.randrange(TABLES)
        column = "Col_0" if number % 10 == 0 else rng.choice(list(columns[names[table]]))
        questions.append((table, column.upper() if rng.random() < 0.5 else column))
    return schema, tables, questions


def run(state):
    schema, tables, questions = state
    return [
        (
            len(schema.column_names(tables[table])),
            schema.get_column_type(tables[table], column).sql(),
            schema.has_column(tables[table], column),
        )
        for table, column in questions
    ]
