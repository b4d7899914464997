<?php
ini_set('memory_limit', '-1');
$eaten = [];
for ($i = 0; $i < 1536; $i++) $eaten[] = str_repeat('x', 1 << 20);
echo "still here\n";
