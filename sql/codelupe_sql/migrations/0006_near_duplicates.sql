-- Near duplicates: stored files whose sets of shingles have a Jaccard index of 0.7 or more. A cluster holds what such
-- pairs link, directly or over others; one file of it survives.

alter table processed_files
    -- Files of one cluster have the same; null if there is no near duplicate.
    add column cluster_id bigint,
    -- Whether it is the one of its cluster that batches and exports take; true for a file that is alone.
    add column is_survivor boolean not null default true,
    -- The version of the signature by which it was compared with the others; null if it was not yet.
    add column signature_version integer;

create index processed_files_clusters on processed_files (cluster_id) where cluster_id is not null;
create index processed_files_left_clusters on processed_files (cluster_id)
    where cluster_id is not null and content is null;

-- A file's MinHash signature as 25 bands: files that share a band may be near duplicates. Only the content decides
-- what is here, so it is written ahead of the scores: of two files that come at the same moment the later one sees the
-- other. No reference to processed_files, whose check would cost more than the row; a trigger deletes instead.
create table near_duplicate_bands (
    band bigint,
    file_id bigint,
    primary key (band, file_id)
);

create index near_duplicate_bands_by_file on near_duplicate_bands (file_id);

-- The pairs that were found, each with its true Jaccard index.
create table near_duplicates (
    file_id bigint,
    other_id bigint,
    jaccard real not null,
    primary key (file_id, other_id),
    check (file_id > other_id)
);

create index near_duplicates_by_other on near_duplicates (other_id);

create function forget_signature() returns trigger language plpgsql as $$
begin
    delete from near_duplicate_bands where file_id = old.id;
    delete from near_duplicates where file_id = old.id;
    delete from near_duplicates where other_id = old.id;
    return null;
end $$;

create trigger forgets_deleted_signature after delete on processed_files for each row
    when (old.content is not null) execute function forget_signature();
create trigger forgets_emptied_signature after update of content on processed_files for each row
    when (old.content is not null and new.content is null) execute function forget_signature();

-- Whoever changes clusters takes this first, before any lock on a file, and has it to the end of the transaction.
create function lock_clusters() returns void language sql as $$
    select pg_advisory_xact_lock(hashtextextended('codelupe.clusters', 0))
$$;

-- Which of the nodes (ascending) are linked, directly or over others: each with the lowest node that it is linked to.
-- Link n joins ones[n] and others[n]. Nodes of one label take over the lowest label next to one of them, then each its
-- label's own label (after Shiloach and Vishkin, 1982), so that long chains take few rounds, too.
create function connected_components(nodes bigint[], ones bigint[], others bigint[])
returns table (node bigint, component bigint) language plpgsql immutable
set enable_nestloop = off as $$
#variable_conflict use_column
declare
    labels bigint[] := nodes;
    hooked bigint[];
    shortened bigint[];
begin
    loop
        select array_agg(least(own.label, lowest.label) order by own.node) into hooked
        from unnest(nodes, labels) as own (node, label)
        left join (
            select one.label as of_label, min(other.label) as label
            from (select * from unnest(ones, others) union all select * from unnest(others, ones)) as link (one, other)
            join unnest(nodes, labels) as one (node, label) on one.node = link.one
            join unnest(nodes, labels) as other (node, label) on other.node = link.other
            group by one.label
        ) as lowest on lowest.of_label = own.label;
        select array_agg(least(own.label, its.label) order by own.node) into shortened
        from unnest(nodes, hooked) as own (node, label)
        join unnest(nodes, hooked) as its (node, label) on its.node = own.label;
        exit when shortened is not distinct from labels;
        labels := shortened;
    end loop;
    return query select * from unnest(nodes, labels);
end $$;

-- Puts these clusters in order after pairs were added, files deleted, emptied or scored: those that a pair links become
-- one, what nothing links any more goes apart, and of each the best file survives: with a permissive licence, then of
-- the repository with more stars, with more forks, with the higher score, stored earlier.
create function settle_cluster(variadic clusters bigint[]) returns void language plpgsql as $$
declare
    members bigint[];
    ones bigint[];
    others bigint[];
begin
    perform lock_clusters();
    update processed_files set cluster_id = null, is_survivor = true
    where cluster_id = any(clusters) and content is null;
    select coalesce(array_agg(id order by id), '{}') into members
    from processed_files where cluster_id = any(clusters);
    select coalesce(array_agg(file_id), '{}'), coalesce(array_agg(other_id), '{}') into ones, others
    from near_duplicates where file_id = any(members) and other_id = any(members);
    update processed_files set cluster_id = settled.cluster, is_survivor = settled.survives
    from (
        select files.id, case when count(*) over cluster > 1 then component end as cluster,
               row_number() over (
                   cluster order by is_permissive desc, stars desc, forks desc, quality_score desc nulls last, files.id
               ) = 1 as survives
        from connected_components(members, ones, others)
        join processed_files as files on files.id = node
        join repositories on repositories.id = files.repository_id
        window cluster as (partition by component)
    ) as settled
    where processed_files.id = settled.id
      and (processed_files.cluster_id, processed_files.is_survivor)
          is distinct from (settled.cluster, settled.survives);
end $$;
