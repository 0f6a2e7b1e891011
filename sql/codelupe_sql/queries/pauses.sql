-- Parts of plugins that failed in a row, and those that are paused.

-- name: record_failure
-- Returns over how many streams it has failed since it last succeeded.
insert into failures_in_a_row (plugin, kind, name, streams) values ($1, $2, $3, array[$4])
on conflict (plugin, kind, name) do update
set streams = case when $4 = any(failures_in_a_row.streams) then failures_in_a_row.streams
                   else failures_in_a_row.streams || $4 end
returning cardinality(streams)

-- name: record_dead_letter
-- Returns how many streams that it failed over since it last succeeded have a dead letter; null if this one has not.
update failures_in_a_row set dead_lettered = array_remove(dead_lettered, $4) || $4
where plugin = $1 and kind = $2 and name = $3 and $4 = any(streams)
returning cardinality(dead_lettered)

-- name: is_paused
select exists (select from pauses where plugin = $1 and kind = $2 and name = $3)

-- name: forget_failures
delete from failures_in_a_row where plugin = $1 and kind = $2 and name = $3

-- name: failing
select plugin, kind, name from failures_in_a_row

-- name: pause
insert into pauses (plugin, kind, name, why) values ($1, $2, $3, $4)
on conflict do nothing
returning name

-- name: pauses
select plugin, kind, name, since, why from pauses order by plugin, kind, name

-- name: resume
-- All of a plugin, or what has this full name.
delete from pauses where plugin = $1 or plugin || '.' || name = $1
returning plugin, kind, name, since, why
