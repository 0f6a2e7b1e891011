-- What a handler writes besides the event it emits, the same for every system.

-- name: create_effects
create table effects (
    position bigint generated always as identity primary key,
    number bigint not null,
    text text not null
)

-- name: insert_effect
insert into effects (number, text) values ($1, $2)

-- name: insert_effects
insert into effects (number, text) select * from unnest($1::bigint[], $2::text[])

-- name: count_effects
select count(*) from effects
