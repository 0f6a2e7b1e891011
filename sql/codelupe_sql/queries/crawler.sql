-- What the crawler writes.

-- name: record_repositories
-- Take in rows ($1, a JSON array) of repositories that are new or have a new revision; the ids of these.
select record_repositories($1) as id

-- name: forgotten_ids
-- Those of a source's repositories that were forgotten.
select repository_id from forgotten where starts_with(repository_id, $1 || ':')

-- name: count_by_state
select state, count(*) as n from repositories group by state order by state

-- name: count_by_rule
-- Why repositories were turned down, the most frequent rule first.
select reason ->> 'rule' as rule, count(*) as n
from repositories, jsonb_array_elements(reasons) as reason
where state = 'rejected' group by rule order by n desc, rule
