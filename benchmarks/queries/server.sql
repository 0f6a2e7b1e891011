-- About the server that all systems share.

-- name: setting
select current_setting($1)

-- name: vacuum
vacuum (analyze)

-- name: checkpoint
checkpoint
