-- A lease that is extended while another process finds the clock set back is of the new clock, and stays.

-- Sets leases and jobs back with a clock that was; returns by how many seconds. What is later than it is now is of the
-- old clock: later than when the row is looked at, since others have written after this transaction began.
create or replace function check_clock() returns double precision language plpgsql as $$
declare
    back constant interval := step_back('leases');
begin
    if back is null then
        return null;
    end if;
    update workers set lease_until = lease_until - back, beat_at = beat_at - back
    where beat_at > log_time() + (clock_timestamp() - now());
    update jobs set started_at = started_at - back, finished_at = finished_at - back
    where greatest(started_at, finished_at) > log_time() + (clock_timestamp() - now());
    return extract(epoch from back);
end $$;

-- As in 0012: under any search_path.
do $$
begin
    execute format('alter function check_clock() set search_path = %I, pg_temp', current_schema());
end $$;
