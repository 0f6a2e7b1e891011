-- Files of earlier batches that a batch learns from again: some of all that was learned, so that it is not forgotten
-- (arXiv 2403.08763), and all of a batch whose training failed. They are drawn when the batch is frozen.

create table batch_replays (
    batch_id bigint not null references batches (id),
    file_id bigint not null references processed_files (id),
    -- Whether it comes of a batch whose training failed, and so was not learned from before.
    is_returned boolean not null,
    primary key (batch_id, file_id)
);

create index batch_replays_by_file on batch_replays (file_id);

-- The models whose batches have files of these repositories, or learned from some again, with how many; and those that
-- went on from one of these, directly or over others. A training that failed or is under way counts: it has seen them.
create function models_that_saw(repositories text[]) returns table (id text, files bigint) language sql stable as $$
    with recursive theirs as materialized (
        select processed_files.id from processed_files where repository_id = any(repositories)
    ), members as (
        select batch_id from batch_files where file_id in (select theirs.id from theirs)
        union all
        select batch_id from batch_replays where file_id in (select theirs.id from theirs)
    ), trained as (
        select models.id, count(*) as files from models join members using (batch_id) group by models.id
    ), saw as (
        select trained.id from trained
        union
        select models.id from models join saw on models.parent = saw.id
    )
    select saw.id, coalesce(trained.files, 0) from saw left join trained using (id)
$$;
