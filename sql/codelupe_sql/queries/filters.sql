-- The decisions about repositories and about the files of their clones.

-- name: is_forgotten
-- Whether a repository with this id, name and address must not come back.
select is_forgotten($1, $2, $3)

-- name: lock_verdict
-- One row if the repository is known: how far it has come, and what was last said about it.
select state, revision, verdict, judged_revision, judged_position from repositories where id = $1 for no key update

-- name: record_verdict
-- The decision ($2, accepted or rejected) about a repository ($1) at a revision ($3) because of the event at a position
-- ($4), the score ($5) and the reasons ($6). One that is accepted again is where it had come to before. What was
-- forgotten stays so.
update repositories set
    verdict = $2, judged_revision = $3, judged_position = $4, score = $5, reasons = $6,
    state = case
        when state = 'forgotten' then state
        when $2 = 'rejected' then 'rejected'
        when state in ('cloned', 'empty', 'extracted', 'scored') then state
        when state = 'rejected' then coalesce(reached, 'accepted')
        else 'accepted' end,
    reached = case
        when $2 = 'accepted' then null
        when state in ('cloned', 'empty', 'extracted', 'scored') then state
        when state = 'rejected' then reached end
where id = $1

-- name: read_repository
-- One row if the repository is known: what it is called and what its source says of the licence, where its clone lies,
-- and the key for placeholders.
select full_name, licence, path, (select key from redaction_key) as redaction_key from repositories where id = $1

-- name: was_forgotten
-- Whether the repository was forgotten; it cannot be forgotten before this transaction ends.
select state = 'forgotten' from repositories where id = $1 for share

-- name: keep_rule_set
-- The id of these rules, which are stored if they are new.
insert into rule_sets (rules) values ($1)
on conflict (md5(rules::text)) do update set rules = excluded.rules
returning id

-- name: create_incoming_files
-- The verdicts on one clone on their way into processed_files, filled by COPY.
create temporary table incoming_files (
    file_path text, language text, licence text, licence_evidence jsonb, is_permissive boolean, content text,
    content_hash bytea, size_bytes bigint, characters integer, labels text[], redactions jsonb, rejected_by text,
    rejection jsonb
) on commit drop

-- name: store_first_copies
-- The kept files whose content is not stored yet, of several copies in the clone the one under the better licence.
-- In the order of their hashes, so that two clones with files in common wait for one another instead of locking each
-- other out.
insert into processed_files (
    repository_id, commit, file_path, language, licence, licence_evidence, is_permissive, content, content_hash,
    size_bytes, characters, labels, redactions, rule_set
)
select $1, $2, file_path, language, licence, licence_evidence, is_permissive, content, content_hash,
    size_bytes, characters, labels, redactions, $3
from incoming_files where rejected_by is null
order by content_hash, is_permissive desc, file_path
on conflict do nothing

-- name: lock_stored_files
-- Those of which the clone may have a better copy, and the repository's own of other commits: no other transaction
-- changes them from here on. In the order of their hashes, too.
select from processed_files where content is not null and id in (
    select stored.id from processed_files as stored
    join repositories as theirs on theirs.id = stored.repository_id
    join repositories as ours on ours.id = $1 and ours.id <> theirs.id
    where stored.content is not null
      and stored.content_hash in (select content_hash from incoming_files where rejected_by is null)
      and (true, ours.stars, ours.forks) > (stored.is_permissive, theirs.stars, theirs.forks)
    union all
    select id from processed_files where repository_id = $1 and commit <> $2 and content is not null
)
order by content_hash for update

-- name: carry_over
-- What was stored at another commit ($2 is the present one) and is still there keeps its id, content and scores, wherever
-- it lies by now. What is in a batch or in an evaluation set stays.
with kept as (
    select distinct on (stored.id) stored.id, incoming.*
    from processed_files as stored
    join incoming_files as incoming on incoming.content_hash = stored.content_hash and incoming.rejected_by is null
    where stored.repository_id = $1 and stored.commit <> $2 and stored.content is not null
      and not is_kept(stored.id)
      and not exists (
          select from processed_files as mine
          where mine.repository_id = $1 and mine.commit = $2 and mine.file_path = incoming.file_path
      )
    order by stored.id, incoming.is_permissive desc, incoming.file_path <> stored.file_path, incoming.file_path
)
update processed_files set
    commit = $2, file_path = kept.file_path, language = kept.language, licence = kept.licence,
    licence_evidence = kept.licence_evidence, is_permissive = kept.is_permissive, size_bytes = kept.size_bytes,
    labels = kept.labels, redactions = kept.redactions, rule_set = $3
from kept where processed_files.id = kept.id

-- name: exchange_copies
-- Where the clone has a better copy of what is stored, the stored row becomes that copy: it keeps its id, content and
-- scores and changes where it comes from. The copy that it was gets a row of its own, as a duplicate. Better is: a
-- permissive licence; then more stars; then more forks; then having come earlier. What is in a batch or in an
-- evaluation set stays.
with better as (
    select stored.id, stored.repository_id, stored.commit, stored.file_path, stored.language, stored.licence,
        stored.licence_evidence, stored.is_permissive, stored.content_hash, stored.size_bytes, stored.characters,
        stored.labels, stored.redactions, stored.rule_set,
        incoming.file_path as new_path, incoming.language as new_language, incoming.licence as new_licence,
        incoming.licence_evidence as new_licence_evidence, incoming.is_permissive as new_is_permissive,
        incoming.size_bytes as new_size_bytes, incoming.labels as new_labels, ours.full_name
    from (
        select distinct on (content_hash)
            content_hash, file_path, language, licence, licence_evidence, is_permissive, size_bytes, labels
        from incoming_files where rejected_by is null
        order by content_hash, is_permissive desc, file_path
    ) as incoming
    join processed_files as stored on stored.content_hash = incoming.content_hash and stored.content is not null
    join repositories as theirs on theirs.id = stored.repository_id
    join repositories as ours on ours.id = $1
    where stored.repository_id <> $1
      and (incoming.is_permissive, ours.stars, ours.forks) > (stored.is_permissive, theirs.stars, theirs.forks)
      and not is_kept(stored.id)
      and not exists (
          select from processed_files as mine
          where mine.repository_id = $1 and mine.commit = $2 and mine.file_path = incoming.file_path
      )
), exchanged as (
    update processed_files set
        repository_id = $1, commit = $2, file_path = new_path, language = new_language, licence = new_licence,
        licence_evidence = new_licence_evidence, is_permissive = new_is_permissive, size_bytes = new_size_bytes,
        labels = new_labels, rule_set = $3
    from better where processed_files.id = better.id
    returning processed_files.id
)
insert into processed_files (
    repository_id, commit, file_path, language, licence, licence_evidence, is_permissive, content_hash, size_bytes,
    characters, labels, redactions, rule_set, rejected_by, rejection
)
select repository_id, commit, file_path, language, licence, licence_evidence, is_permissive, content_hash, size_bytes,
    characters, labels, redactions, rule_set, 'exact-duplicate', jsonb_build_object(
        'rule', 'exact-duplicate', 'version', 1,
        'detail', 'the same content as ' || new_path || ' of ' || full_name || ' at ' || $2 || ', a better copy',
        'file_id', id, 'repository_id', $1, 'commit', $2, 'path', new_path
    )
from better join exchanged using (id)

-- name: store_refused_files
-- What is not stored by now: the refused files, and the kept ones that are copies. No content goes with them.
insert into processed_files (
    repository_id, commit, file_path, language, licence, licence_evidence, is_permissive, content_hash, size_bytes,
    characters, labels, redactions, rule_set, rejected_by, rejection
)
select $1, $2, file_path, language, licence, licence_evidence, is_permissive, content_hash, size_bytes, characters,
    labels, redactions, $3, coalesce(rejected_by, 'exact-duplicate'),
    case when rejected_by is null then (
        select jsonb_build_object(
            'rule', 'exact-duplicate', 'version', 1,
            'detail', 'the same content as ' || first.file_path || ' of ' || repositories.full_name || ' at '
                || first.commit,
            'file_id', first.id, 'repository_id', first.repository_id, 'commit', first.commit,
            'path', first.file_path
        )
        from processed_files as first join repositories on repositories.id = first.repository_id
        where first.content_hash = incoming_files.content_hash and first.content is not null
    ) else rejection end
from incoming_files
where not exists (
    select from processed_files as stored
    where stored.repository_id = $1 and stored.commit = $2 and stored.file_path = incoming_files.file_path
)
order by file_path
on conflict (repository_id, commit, file_path) do nothing

-- name: leave_to_copies
-- What was stored at another commit, is not there any more and has a copy in another repository becomes that copy, the
-- best one: it keeps its id, content and scores. What is in a batch or in an evaluation set stays.
with heirs as (
    select distinct on (stored.id) stored.id as stored_id, copies.*
    from processed_files as stored
    join processed_files as copies on copies.content_hash = stored.content_hash
      and copies.rejected_by = 'exact-duplicate' and copies.repository_id <> $1
    join repositories on repositories.id = copies.repository_id
    where stored.repository_id = $1 and stored.commit <> $2 and stored.content is not null
      and not is_kept(stored.id)
      and repositories.state <> 'forgotten' and copies.commit = coalesce(repositories.commit, copies.commit)
    order by stored.id, copies.is_permissive desc, stars desc, forks desc, copies.id
), replaced as (
    delete from processed_files using heirs where processed_files.id = heirs.id returning processed_files.id
)
update processed_files set
    repository_id = heirs.repository_id, commit = heirs.commit, file_path = heirs.file_path, language = heirs.language,
    licence = heirs.licence, licence_evidence = heirs.licence_evidence, is_permissive = heirs.is_permissive,
    size_bytes = heirs.size_bytes, labels = heirs.labels, redactions = heirs.redactions, rule_set = heirs.rule_set
from heirs join replaced using (id) where processed_files.id = heirs.stored_id

-- name: retire_vanished
-- The rest of what was stored at other commits loses content and scores. What is in a batch or in an evaluation set
-- stays.
update processed_files set
    content = null, quality_score = null, scores = null, scored_at = null, previous_scores = null,
    rejected_by = 'vanished', rejection = jsonb_build_object(
        'rule', 'vanished', 'version', 1, 'detail', 'no file at ' || $2 || ' has this content', 'commit', $2
    )
where repository_id = $1 and commit <> $2 and content is not null
  and not is_kept(processed_files.id)

-- name: delete_superseded
-- What was refused at other commits: it has been looked at again, or is not there any more.
delete from processed_files
where repository_id = $1 and commit <> $2 and content is null and rejected_by not in ('vanished', 'forgotten')
  and not is_kept(processed_files.id)

-- name: count_files
-- Of one clone: how many are stored (rejected_by is null), and how many each rule refused.
select rejected_by, count(*) as files from processed_files
where repository_id = $1 and commit = $2 group by rejected_by order by rejected_by

-- name: finish_extraction
-- A repository whose files are scored already stays there.
update repositories set extracted_commit = $2, clone_used_at = now(),
    state = case when state = 'scored' then state else state_after(state, 'extracted') end
where id = $1 and coalesce(commit, $2) = $2

-- name: summarise_files
select count(*) as seen,
       count(*) filter (where content is not null) as stored,
       count(*) filter (where rejected_by is not null) as rejected,
       count(*) filter (where quality_score is not null) as scored,
       count(*) filter (where quality_score >= 70) as good,
       avg(quality_score)::float as mean_score
from processed_files

-- name: count_rejections
select rejected_by as rule, count(*) as n from processed_files
where rejected_by is not null group by rule order by n desc, rule
