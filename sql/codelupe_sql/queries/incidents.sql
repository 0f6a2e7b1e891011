-- What plugins did that hurt others.

-- name: record_blocked_loop
insert into plugin_incidents (plugin, kind, stage, stream, seconds, stack) values ($1, 'blocked_loop', $2, $3, $4, $5)
on conflict (plugin, kind) do update
set stage = excluded.stage, stream = excluded.stream, seconds = excluded.seconds, stack = excluded.stack,
    at = excluded.at, count = plugin_incidents.count + 1

-- name: incidents
select plugin, kind, stage, stream, seconds, stack, at, count from plugin_incidents order by plugin, kind
