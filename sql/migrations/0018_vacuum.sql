-- Vacuum looks after these when a twentieth of them has changed, not a fifth: a million mails that had expired among ten million were
-- left where they lay, and the next million made the tables grow by as much again instead of taking their place (tests/bench/scale).
-- What is vacuumed is also what index-only scans, a mailbox's count of mails and the janitor's sweep, need not fetch.
alter table messages set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
-- step
alter table message_authentication set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
-- step
alter table mailboxes set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
-- step
alter table account_mailboxes set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
