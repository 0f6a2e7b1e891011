-- Repositories as their sources describe them: one writer of the row, which takes any columns.

-- Takes in rows of repositories (a JSON array of objects, all with the same keys: names of columns) that are new or have
-- a new revision, and returns the ids of these. A repository with a new revision starts again; its old clone stays until
-- it is replaced. One that was forgotten is passed over, also under another id or address. The keys say which columns
-- are written, so a further one needs no change here.
create function record_repositories(described jsonb) returns setof text language plpgsql as $$
declare
    columns constant text := (
        select string_agg(quote_ident(key), ', ' order by key) from jsonb_object_keys(described -> 0) as key
    );
    columns_but_id constant text := (
        select string_agg(quote_ident(key), ', ' order by key) from jsonb_object_keys(described -> 0) as key
        where key <> 'id'
    );
begin
    return query execute format($query$
        insert into repositories (%1$s)
        select %1$s from jsonb_populate_recordset(null::repositories, $1) as fresh
        where not exists (
            select from repositories as known where known.id = fresh.id and known.revision = fresh.revision
        ) and not is_forgotten(id, full_name, url)
        order by id
        on conflict (id) do update set
            (%2$s) = (select %2$s from (select excluded.*) as fresh),
            discovered_at = now(), state = 'discovered', score = null, reasons = '[]'
        where repositories.revision <> excluded.revision
        returning id
    $query$, columns, columns_but_id) using described;
end $$;
