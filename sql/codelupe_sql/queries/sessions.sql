-- What is set in a session, and how it is made like new; sent together, in one round trip. Set by SQL and not at the
-- session's start, where a pooler would refuse it.

-- name: unprepare
-- At the session's start: a pooler may have used it.
deallocate all

-- name: prepare_begin
-- Each statement must see its own moment: an older snapshot than the high-water mark would lose events. Readers of the
-- log wait for a transaction that has appended: a frozen process must not hold them up for ever, and of one that is
-- gone without a word the server's kernel learns within 25 seconds.
prepare codelupe_begin as
select set_config('application_name', 'codelupe', false), set_config('timezone', 'UTC', false),
       set_config('default_transaction_isolation', 'read committed', false),
       set_config('idle_in_transaction_session_timeout', '300s', false),
       set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),
       set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '25s', false)

-- name: run_begin
-- Prepared, since the two were the dearest part of each reset.
execute codelupe_begin

-- name: enter_schema
-- For the rest of this session, or of this transaction if $2.
select set_config('search_path', quote_ident($1) || ', ' || current_setting('search_path'), $2)

-- name: leave_schema
-- For the rest of this transaction, whatever the path was set to.
set local search_path to default

-- name: lift_limits
-- For the host's own statements: what an administrator sets for a role or a database is meant for others.
select set_config(name, '0', false) from pg_settings
where name in ('statement_timeout', 'lock_timeout', 'idle_session_timeout', 'transaction_timeout')

-- name: reset_user
reset session authorization

-- name: reset_role
reset role

-- name: prepare_unlock
-- Fails where temporary tables or PREPAREd statements were made: what the client keeps of their types and plans would
-- be wrong for the next, so such a session is closed.
prepare codelupe_unlock as
select 1 / (pg_my_temp_schema() = 0 and not exists (
           select from pg_prepared_statements
           where from_sql and name not in ('codelupe_begin', 'codelupe_unlock')))::integer,
       pg_advisory_unlock_all()

-- name: run_unlock
execute codelupe_unlock

-- name: close_cursors
close all

-- name: unlisten
unlisten *

-- name: reset_settings
reset all

-- name: reset_sequences
discard sequences

-- name: only_reads
-- Whether that is so by itself, and not by what this session has set.
select pg_is_in_recovery() or reset_val::boolean from pg_settings where name = 'default_transaction_read_only'

-- name: backend
-- What serves this session: a process of the server, and when it began, for numbers of processes are used again.
select pid, backend_start from pg_stat_get_activity(pg_backend_pid())

-- name: end_orphans
-- All are told first, and then waited for, each so many milliseconds: what they had locked is free for what comes next.
with orphans as materialized (
    select pid, pg_terminate_backend(pid) from pg_stat_activity
    where (pid, backend_start) in (select * from unnest($1::integer[], $2::timestamptz[]))
)
select pg_terminate_backend(pid, $3) from (select pid, count(*) over () as n from orphans) as told where n > 0

-- name: ask
select 1
