<?php
// Short naps: a signal cuts one long sleep short, and a request would look quicker than it is.
$end = hrtime(true) + 1000000 * (int) ($_GET['ms'] ?? 0);
while (hrtime(true) < $end) usleep(2000);
echo 'ok ', $_GET['id'] ?? '', ' ', strlen(file_get_contents('php://input')), "\n";
