"""The policy node: lifecycle, subscriptions, publishers and timers around the runtime. No maths."""
