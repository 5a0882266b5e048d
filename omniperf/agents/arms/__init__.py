"""Control arms: agents without a model, used as yardsticks."""
