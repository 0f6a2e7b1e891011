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
