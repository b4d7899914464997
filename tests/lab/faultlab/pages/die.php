<?php
// A request that no worker survives.
posix_kill(getmypid(), 9);
sleep(5);
