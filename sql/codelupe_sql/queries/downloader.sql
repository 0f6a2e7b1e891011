-- What the downloader reads and writes.

-- name: read_repository
-- What is known of a repository's clone, and how it is called now; full_name is null once it has no claim to a name, and
-- url once it is out.
select commit, path, accepted_position, case when not is_out(state) then url end as url,
    case when state not in ('gone', 'forgotten') then full_name end as full_name,
    exists (select from forgotten where repository_id = $1) as is_forgotten
from repositories where id = $1

-- name: namesakes
-- The repositories other than $1 that are called $2 by now and have a clone.
select id from repositories
where lower(full_name) = lower($2) and id <> $1 and path is not null and state not in ('gone', 'forgotten')
order by id

-- name: is_forgotten
select exists (select from forgotten where repository_id = $1)

-- name: record_clone
-- $2 commit, $3 path, $4 bytes, $5 position of the RepoAccepted that asked for it. What was forgotten meanwhile has none.
update repositories set state = state_after(state, 'cloned'), commit = $2, path = $3, size_bytes = $4, cloned_at = now(),
    clone_used_at = now(), accepted_position = greatest(accepted_position, $5)
where id = $1 and state <> 'forgotten'

-- name: record_unmoved
-- The clone ($2 its path, null if it was removed) is still the newest: the repository ($1) goes back to where it had come
-- with it.
update repositories set path = $2, clone_used_at = now(), accepted_position = greatest(accepted_position, $3),
    state = state_after(state, case
        when extracted_commit is distinct from commit then 'cloned'
        when exists (
            select from processed_files as files
            where files.repository_id = $1 and files.commit = repositories.commit and content is not null
              and scored_at is null
        ) then 'extracted'
        else 'scored'
    end)
where id = $1 and state <> 'forgotten'

-- name: hold_repositories
-- Held to the end of the transaction: where a clone lies is looked up and recorded by one at a time, after every move.
select id, path, full_name from repositories where id = any($1) order by id for update

-- name: record_path
update repositories set path = $2 where id = $1 and path is distinct from $2

-- name: record_empty
update repositories set state = state_after(state, 'empty'), accepted_position = greatest(accepted_position, $2)
where id = $1

-- name: record_gone
update repositories set state = 'gone', accepted_position = greatest(accepted_position, $2)
where id = $1 and state <> 'forgotten'

-- name: host_wait
-- For how many seconds more a host ($1) is left alone, and why; below zero once that is over. No row: it served the last
-- clone.
select extract(epoch from next_at - clock_timestamp())::float8 as seconds, reason from clone_hosts where host = $1

-- name: close_host
-- Leave a host ($1) alone, for $2 seconds or else a minute, and twice as long each further time, at most an hour. What
-- others have found meanwhile counts once. Returns how often it was found closed.
insert into clone_hosts as known (host, next_at, waits, reason)
values ($1, clock_timestamp() + make_interval(secs => coalesce($2, 60)), 1, $3)
on conflict (host) do update set
    waits = known.waits + (known.next_at <= clock_timestamp())::integer,
    next_at = greatest(known.next_at, clock_timestamp() + make_interval(secs => coalesce(
        $2, least(3600, 60 * 2 ^ least(known.waits - 1 + (known.next_at <= clock_timestamp())::integer, 10))
    ))),
    reason = excluded.reason
returning waits

-- name: open_host
-- It serves again, unless it was closed meanwhile.
delete from clone_hosts where host = $1 and next_at <= clock_timestamp()

-- name: clones_to_remove
-- Clones whose files are extracted, but for those used last that together have at most $1 bytes.
select id, path from (
    select id, path, clone_used_at, extracted_commit, commit,
        sum(size_bytes) over (order by clone_used_at desc nulls last, id) as bytes
    from repositories where path is not null
) as clones
where bytes > $1 and extracted_commit = commit
order by clone_used_at nulls first, id

-- name: record_removed
update repositories set path = null where id = $1 and path = $2
