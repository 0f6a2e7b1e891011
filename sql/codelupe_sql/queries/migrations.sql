-- Which migrations a database has. The advisory lock lets several processes start at once.

-- name: lock_until_the_session_ends
select pg_advisory_lock(hashtext('codelupe migrations'))

-- name: create_table
create table if not exists schema_migrations (
    owner text not null,
    number integer not null,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now(),
    primary key (owner, number)
)

-- name: table_exists
select to_regclass('schema_migrations') is not null

-- name: applied
select owner, number, name, checksum, applied_at from schema_migrations order by owner = 'codelupe' desc, owner, number

-- name: record
insert into schema_migrations (owner, number, name, checksum) values ($1, $2, $3, $4)

-- name: set_schema
select set_config('codelupe.schema', $1, true)

-- name: create_schema
-- Not "if not exists", which asks for the right to create one even where an administrator has made it.
do $$ begin
    if to_regnamespace(current_setting('codelupe.schema')) is null then
        execute format('create schema %I', current_setting('codelupe.schema'));
    end if;
end $$

-- name: enter_schema
-- Until the transaction ends. A plugin's migration must not wait for long for a lock on a table of others, which would
-- wait behind it.
select set_config('search_path', current_setting('codelupe.schema'), true), set_config('lock_timeout', '30s', true)

-- name: limit_time
select set_config('statement_timeout', $1, true)

-- name: set_migration
select set_config('codelupe.migration', $1, true)

-- name: run_migration
-- Within one statement the text cannot commit or roll back: Postgres refuses that.
do $$ begin
    execute current_setting('codelupe.migration');
end $$
