-- The decisions about repositories and about the files of their clones.

-- name: judge_repository
-- Everything the source says, and the decision. A repository that has come further at the same revision stays there
-- when it is accepted once more.
insert into repositories as known (
    id, source, full_name, url, revision, description, language, licence, stars, forks, size_kib, topics, is_fork,
    is_archived, pushed_at, state, score, reasons
) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18::text::jsonb)
on conflict (id) do update set
    full_name = excluded.full_name, url = excluded.url, revision = excluded.revision,
    description = excluded.description, language = excluded.language, licence = excluded.licence,
    stars = excluded.stars, forks = excluded.forks, size_kib = excluded.size_kib, topics = excluded.topics,
    is_fork = excluded.is_fork, is_archived = excluded.is_archived, pushed_at = excluded.pushed_at,
    score = excluded.score, reasons = excluded.reasons,
    state = case
        when excluded.state = 'accepted' and known.revision = excluded.revision
            and known.state in ('cloned', 'empty', 'extracted', 'scored') then known.state
        else excluded.state
    end

-- name: read_licence
-- One row if the repository is known; GitHub says NOASSERTION where it could not tell.
select nullif(licence, 'NOASSERTION') as licence from repositories where id = $1

-- name: create_incoming_files
-- The verdicts on one clone on their way into processed_files, filled by COPY.
create temporary table incoming_files (
    file_path text, language text, licence text, content text, content_hash bytea, size_bytes bigint,
    characters integer, labels text[], rejected_by text, rejected_detail text
) on commit drop

-- name: store_first_copies
-- The kept files whose content nobody stored before. In the order of their hashes, so that two clones with files in
-- common wait for one another instead of locking each other out.
insert into processed_files (
    repository_id, commit, file_path, language, licence, content, content_hash, size_bytes, characters, labels
)
select $1, $2, file_path, language, licence, content, content_hash, size_bytes, characters, labels
from incoming_files where rejected_by is null
order by content_hash, file_path
on conflict do nothing

-- name: store_refused_files
-- What is not stored by now: the refused files, and the kept ones that are copies. No content goes with them.
insert into processed_files (
    repository_id, commit, file_path, language, licence, content_hash, size_bytes, characters, labels,
    rejected_by, rejected_detail
)
select $1, $2, file_path, language, licence, content_hash, size_bytes, characters, labels,
    coalesce(rejected_by, 'exact-duplicate'),
    case when rejected_by is null then (
        select 'the same content as ' || first.file_path || ' of ' || repositories.full_name || ' at ' || first.commit
        from processed_files as first join repositories on repositories.id = first.repository_id
        where first.content_hash = incoming_files.content_hash and first.content is not null
    ) else rejected_detail end
from incoming_files
where not exists (
    select from processed_files as stored
    where stored.repository_id = $1 and stored.commit = $2 and stored.file_path = incoming_files.file_path
)
order by file_path
on conflict (repository_id, commit, file_path) do nothing

-- name: count_files
-- Of one clone: how many are stored (rejected_by is null), and how many each rule refused.
select rejected_by, count(*) as files from processed_files
where repository_id = $1 and commit = $2 group by rejected_by order by rejected_by

-- name: finish_extraction
-- A repository whose files are scored already stays there.
update repositories set state = 'extracted'
where id = $1 and coalesce(commit, $2) = $2 and state <> 'scored'
