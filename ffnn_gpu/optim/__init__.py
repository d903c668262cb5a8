"""θ ← rule(θ, ∇θ), and its learning rate: optimizers and schedules."""
