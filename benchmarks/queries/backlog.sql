-- What the benchmark of backlogs makes of its database.

-- name: dead_letter_all_events
-- As if the handler had given every event up.
insert into tasks (subscription, stream, position, type, version, state, attempts, dead_lettered_at, error, traceback)
select name, events.stream, events.position, events.type, events.version, 'dead_lettered', 5, log_time(),
       'ValueError: no', repeat('  File "handler.py", line 1, in handle', 20)
from events join subscriptions on events.type = any(types)
