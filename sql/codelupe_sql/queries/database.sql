-- About the database itself.

-- name: server_version
select current_setting('server_version')

-- name: server_version_number
select current_setting('server_version_num')::integer

-- name: database_size
select pg_database_size(current_database())

-- name: table_sizes
-- Partitions are counted with their table, indexes and what is stored out of line with it.
select coalesce(parent.relname, tables.relname) as name, sum(greatest(tables.reltuples, 0))::bigint as rows,
       sum(pg_total_relation_size(tables.oid))::bigint as bytes, sum(pg_indexes_size(tables.oid))::bigint as index_bytes
from pg_class as tables
left join pg_inherits on pg_inherits.inhrelid = tables.oid
left join pg_class as parent on parent.oid = pg_inherits.inhparent
where tables.relkind = 'r' and tables.relnamespace = current_schema()::regnamespace
group by 1 order by bytes desc, name

-- name: connections
-- How many this user may open to this database, and how many are used beside this one.
with of_server as (
    select current_setting('max_connections')::integer
               - current_setting('superuser_reserved_connections')::integer
               - coalesce(current_setting('reserved_connections', true), '0')::integer as allowed,
           (select count(*) from pg_stat_activity where datid is not null) as used
), limits as (
    select allowed, used from of_server
    union all
    select datconnlimit, (select count(*) from pg_stat_activity where datname = current_database())
    from pg_database where datname = current_database() and datconnlimit >= 0
    union all
    select rolconnlimit, (select count(*) from pg_stat_activity where usename = current_user)
    from pg_roles where rolname = current_user and rolconnlimit >= 0
)
select allowed::integer as allowed, greatest(used - 1, 0)::integer as used from limits order by allowed - used limit 1
