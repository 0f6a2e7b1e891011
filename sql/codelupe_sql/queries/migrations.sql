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
