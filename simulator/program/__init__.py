"""The narrow waist: a Program is what a model becomes and what every engine interprets, to the same trajectory.

Rules that fix a trajectory:

1. An event is scheduled by a delay from now; its time is `now + delay` in double precision. Events happen in the
   order of (time, order of scheduling). A cancelled event does not happen. The run ends before the first event at
   or after its duration.
2. Within an event one token runs until it blocks or ends. Tokens woken meanwhile (a pool unit came free, a fork
   ended, a branch started) wait in one ready queue, first in first out, and run before the next event.
3. An arrival schedules the next arrival of its workload before its request runs. A closed workload's user
   schedules its next think time when its request ends, after the request is recorded; at time 0, its first one,
   for a delay of start + think.
4. A server that completes a job starts the next waiting one, and schedules its completion, before the completed
   token goes on; so does the server of batches, which then wakes the jobs in the order in which they came. A
   sharing station reschedules its next completion whenever a job joins or leaves; of jobs that finish together the
   one that joined first leaves first, each in an event of its own.
5. Sharing keeps a virtual time V, the work that every job present has received, advanced on each change by
   `(now - last) * (capacity(n) / n)`, set to the leaving job's mark when a job completes, and to 0 when the station
   empties.
6. A pool grants its queue in strict order: a large request at its head holds back small ones behind it. Where the
   head has waited too long, it leaves, to fail when its turn in the ready queue comes, and the next one is looked at.
7. When a scope's timer fires, or a failure reaches the scope: the token's branches are cancelled in order, then it
   leaves its station, then units are released in reverse order of acquisition, then its handler runs.
8. A draw is a function of (seed, replication, stream name, request number, draw number) only.
9. A request's time is accounted to components as it passes, waiting and service apart. A fork's time is that of the
   branch that ended it; a cancelled fork's, that of its first unfinished branch. So components add up to the whole.
10. A station's speed changes at once for all jobs in it. Servers reschedule the completions of their jobs, with the
   service that is left, in the order in which the jobs' tokens were made; at speed 0 they never complete. Sharing
   stations advance V as in rule 5 with capacity(n) times the speed. A server that is stopped counts as busy.
11. `Break` unwinds the tokens that hold units of its pools, or wait for them, in the order in which they were made,
   each if it still does when its turn comes: as in rule 7 to the innermost scope that was opened before the first such
   unit was acquired, or asked for. Those that go on in a handler wait in the ready queue, in this order; one that is
   there already keeps its place. The token that breaks goes on before them.
12. A scaler asks for ceil(level * ratio) instances, ratio being the metric since its last look over what they should
   have of it, where the ratio differs from 1 by more than the tolerance, within its bounds. It adds instances at
   once, those with the next numbers, each in the balancer when it has started; and takes the last ones out when less
   has been asked for throughout the cool-down, down to the most that was asked for in that time.
13. A message comes when it is published, and runs after those already woken. Where its publisher waits for it, the
   publisher is woken when the message acknowledges or ends; also when it fails, and then fails in its turn.
14. The first token of an answer stops the timers that run until then: of all scopes that its token is in, and of those
   that the token is in of which it is a branch, and so on up; not of a publisher's, nor where a branch is detached.
"""
