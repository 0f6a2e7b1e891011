"""Who handles events: subscriptions, tasks, the worker and its leases, the scheduler."""
